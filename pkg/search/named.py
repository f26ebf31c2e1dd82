"""Named searches, and places that the store knows."""

from collections.abc import Sequence
from typing import Final

from ..blob import Fetcher, parse_ref
from ..errors import Corrupt, Invalid, NotFound
from ..index.attributes import attributes_of
from ..index.corpus import Corpus
from .constraint import Constraint, LocationConstraint, PermanodeConstraint
from .decode import decode_constraint, parse_json
from .gazetteer import stored_places
from .parser import VISIBLE_PERMANODES, parse_inner
from .request import Query, Sort
from .search import search

MAX_NESTING: Final = 10
"""Named searches within each other; they can name each other in a circle."""

_CONTENT: Final = "camliContent"


class StoreNames:
    """A predicates.Resolver over what is stored.

    blobs: where the texts of named searches are fetched from. now_ns, patience_s: as of the
    query in which the names stand.
    """

    def __init__(
        self, corpus: Corpus, blobs: Fetcher, now_ns: int, patience_s: float, depth: int = 0
    ) -> None:
        self._corpus = corpus
        self._blobs = blobs
        self._now_ns = now_ns
        self._patience_s = patience_s
        self._depth = depth
        self._known: dict[str, Constraint] = {}

    def named(self, name: str) -> Constraint:
        """What the newest permanode with this `camliNamedSearch` holds. Raises Invalid."""
        if name not in self._known:
            self._known[name] = self._read(self._text(name))
        return self._known[name]

    def places(self, name: str) -> Sequence[LocationConstraint]:
        """Where the permanodes are that bear this name: a town as a whole, a place around it."""
        return stored_places(self._corpus, name)

    def _text(self, name: str) -> str:
        test = PermanodeConstraint(attr="camliNamedSearch", value=name)
        query = Query(Constraint(permanode=test), limit=1, sort=Sort.MODIFIED_DESCENDING)
        found = search(query, self._corpus, self._now_ns, self._patience_s).refs
        if not found:
            raise _invalid(f"No named search found for: {name}")
        content = attributes_of(self._corpus.view, found[0]).first(_CONTENT)
        ref = parse_ref(content)
        if ref is None:
            raise _invalid(f"Invalid blob ref: {content}")
        try:
            return self._blobs.fetch(ref).decode("utf-8", "replace")
        except (NotFound, Corrupt) as error:
            raise _invalid(f"No text of the named search {name}: {error}") from None

    def _read(self, text: str) -> Constraint:
        if text.startswith("{") and text.endswith("}"):
            return decode_constraint(parse_json(text), strict=False) or Constraint()
        if self._depth == MAX_NESTING:
            raise _invalid(f"Over {MAX_NESTING} named searches within each other")
        inner = StoreNames(
            self._corpus, self._blobs, self._now_ns, self._patience_s, self._depth + 1
        )
        inner._known = self._known  # a name means the same at every depth
        return parse_inner(text, inner) or VISIBLE_PERMANODES


def _invalid(reason: str) -> Invalid:
    return Invalid("find", "named search", reason)
