"""Several listings as one."""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from ..blob import SizedRef
from .storage import Storage


def merged(stores: Sequence[Storage], after: str = "") -> Iterator[SizedRef]:
    """Yield what any of the stores holds, in ref order, each ref once.

    The size is that of the first store that has it. An error of one listing ends the whole:
    what is missing from a failed listing must not look absent.
    """
    return merged_listings([store.enumerate(after) for store in stores])


def merged_listings(listings: Sequence[Iterator[SizedRef]]) -> Iterator[SizedRef]:
    """As `merged`, of listings that are begun already; they are closed with this one."""
    last = ""
    with ExitStack() as open_listings:
        for listing in listings:
            open_listings.callback(getattr(listing, "close", lambda: None))
        for found in heapq.merge(*listings, key=lambda found: found.ref):
            if found.ref != last:
                last = found.ref
                yield found
