"""Queries that stay: asked again when a blob arrived that could change their answer."""

import hashlib
import json
import re
import threading
from collections.abc import Collection
from typing import Any, Final

from ..blob import Ref
from ..index.corpus import Corpus
from ..index.index import Index
from .constraint import Constraint, operands
from .endpoint import PATIENCE_S, answer_asked, read_asked
from .facts import Facts
from .match import Matcher
from .request import Query

MOST_SUBJECTS: Final = 200
"""Changed blobs that are tested one by one; for more the query is asked again at once."""

_REF = re.compile(r"\b[a-z][a-z0-9]*-[0-9a-f]{40,}\b")
_NAMING = re.compile(r"\b(named|loc):")


class Arrivals:
    """What has changed in an index since it was last taken. Safe to use from many threads."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._changed: set[Ref] | None = set()  # None: too many to name

    def add(self, changed: Collection[Ref]) -> None:
        with self._lock:
            if self._changed is not None:
                self._changed.update(changed)
                if len(self._changed) > MOST_SUBJECTS:
                    self._changed = None

    def take(self) -> set[Ref] | None:
        """The blobs about which something has changed, and the permanodes that depend on them.

        None: too many to name.
        """
        with self._lock:
            changed, self._changed = self._changed, set()
        if changed is None:
            return None
        found = set(changed)
        for ref in changed:
            for permanode in self._index.depending_on(ref):
                found.add(permanode)
                if len(found) > MOST_SUBJECTS:
                    return None
        return found


class Standing:
    """One query and what its answer was. Used by one thread at a time."""

    def __init__(self, index: Index, query: dict[str, Any]) -> None:
        """query: as the body of a `query` request has it."""
        self._index = index
        self._body = json.dumps(query).encode()
        # What names stand for may change by blobs that have nothing to do with the results.
        self._has_names = _NAMING.search(str(query.get("expression", ""))) is not None
        self._query: Query | None = None
        self._mentioned: frozenset[str] = frozenset()
        self._digest = b""

    def ask(self, now_ns: int) -> str | None:
        """The answer as compact JSON, if it is another than the last time.

        Raises what reading and running a query raises; the next time may go well.
        """
        self._query = None
        asked = read_asked(self._index, self._body, now_ns, PATIENCE_S)
        answer = answer_asked(self._index, asked, now_ns, PATIENCE_S)
        answer.pop("explain", None)
        text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
        self._query = asked
        self._mentioned = frozenset(_REF.findall(text))
        digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
        if digest == self._digest:
            return None
        self._digest = digest
        return text

    def could_change(self, changed: Collection[Ref] | None, now_ns: int) -> bool:
        """Whether the answer can be another now. changed: as `Arrivals.take` gives it."""
        if changed is None or self._query is None or self._has_names:
            return True
        constraint = self._query.constraint
        if not is_about_itself(constraint) or not self._mentioned.isdisjoint(changed):
            return True
        self._index.settle()
        matcher = Matcher(Facts(Corpus(self._index.view), now_ns, PATIENCE_S))
        return any(matcher.matches(constraint, ref) for ref in changed)


def is_about_itself(constraint: Constraint) -> bool:
    """Whether a blob's matching depends on the blob, its claims and its content file alone."""
    logical, permanode, file = constraint.logical, constraint.permanode, constraint.file
    if constraint.dir is not None or (file is not None and file.parent_dir is not None):
        return False
    if permanode is not None:
        inner = permanode.value_in_set
        if permanode.relation is not None:
            return False
        if inner is not None and not (permanode.attr == "camliContent" and _is_of_file(inner)):
            return False
    return logical is None or all(map(is_about_itself, operands(logical)))


def _is_of_file(constraint: Constraint) -> bool:
    """Whether only files match, by what they are themselves."""
    return constraint == Constraint(file=constraint.file) and is_about_itself(constraint)
