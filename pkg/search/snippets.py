"""Pieces of the texts in which words were found, for showing with the results."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from ..blob import Ref, parse_ref
from ..index.corpus import Corpus
from .constraint import NOT, Constraint, operands

MOST: Final = 200
"""Results with a snippet; the others of a page have none."""


def snippets(corpus: Corpus, constraint: Constraint, refs: Iterable[Ref]) -> dict[Ref, list[str]]:
    """For each result a piece of its text, or its file's, split: every second part was found.

    Results in whose text nothing was looked for, or found, are absent.
    """
    texts, searches = corpus.view.texts, list(_searches(constraint))
    if texts is None or not searches:
        return {}
    found = {}
    for ref in islice(refs, MOST):
        content = corpus.snapshot(ref).attributes.get("camliContent", ())
        for place in (ref, *filter(None, map(parse_ref, content))):
            if piece := texts.snippet(place, searches):
                found[ref] = piece
                break
    return found


def _searches(constraint: Constraint) -> Iterator[str]:
    """The words that are looked for; those that must be absent are not."""
    if constraint.text:
        yield constraint.text
    if constraint.logical is not None and constraint.logical.op != NOT:
        for part in operands(constraint.logical):
            yield from _searches(part)
