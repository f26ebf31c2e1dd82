"""Completion: attributes, and the values of one, by how they begin (README.md, "Completion")."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from ..blob import Ref
from ..index.corpus import Corpus
from ..index.derived import HAS
from ..index.rows import unesc
from ..sorted.kv import after_prefix

MOST: Final = 100
USUAL: Final = 20
_ROWS: Final = 20_000
"""Rows that are read for one answer; then it is of those."""

_LOOKS: Final = 5
"""Permanodes of a value that are looked at for one that has it still."""


class Completion(NamedTuple):
    """text: an attribute or a value. uses: permanodes that ever had it."""

    text: str
    uses: int


def attributes(corpus: Corpus, beginning: str, limit: int) -> list[Completion]:
    """The attributes that begin so, in any case, the most used first; counted up to a bound."""
    found = []
    folded = beginning.casefold()
    key = HAS
    while row := next(corpus.view.find(key, after_prefix(HAS)), None):
        name = row[0].split(b"|")[2]
        prefix = HAS + name + b"|"
        text = unesc(name.decode())
        if not name.startswith(b"#") and text.casefold().startswith(folded):
            count = sum(1 for _ in islice(corpus.view.scan(prefix), _ROWS // 20))
            found.append(Completion(text, count))
        key = after_prefix(prefix)
    return _best(found, limit)


def values(corpus: Corpus, attribute: str, beginning: str, limit: int) -> list[Completion]:
    """The values of an attribute that begin so, in some usual case, the most used first.

    Values that nothing has any more are left out.
    """
    counts: Counter[str] = Counter()
    looked: Counter[str] = Counter()
    current: set[str] = set()
    for value, permanode in islice(_pairs(corpus, attribute, beginning), _ROWS):
        counts[value] += 1
        if value not in current and looked[value] < _LOOKS:
            looked[value] += 1
            snapshot = corpus.snapshot(permanode)
            if not snapshot.is_deleted and value in snapshot.attributes.get(attribute, ()):
                current.add(value)
    return _best([Completion(text, counts[text]) for text in current], limit)


def _pairs(corpus: Corpus, attribute: str, beginning: str) -> Iterator[tuple[str, Ref]]:
    spellings = (beginning, beginning.lower(), beginning.capitalize(), beginning.upper())
    for spelling in dict.fromkeys(spellings):
        for value, permanode in corpus.values(attribute, spelling):
            if value and permanode is not None:
                yield value, permanode


def _best(found: list[Completion], limit: int) -> list[Completion]:
    return sorted(found, key=lambda item: (-item.uses, item.text))[:limit]
