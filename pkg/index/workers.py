"""Processes that work out rows: most of an index's time goes into checking signatures.

Only blobs that need nothing but the key of their signer are handed out; the parent, who has the
store, does the others, and is the only one who writes.
"""

import os
import pickle
import re
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import tzinfo
from queue import SimpleQueue
from typing import Final, Self

from ..blob import Ref, parse_ref
from ..errors import Corrupt, NotFound
from .derived import END, derived_rows
from .extract import Outcome, extract
from .rows import Row
from .sources import LocalFirst, Recent, Source
from .writer import MAX_PLAIN_ROW, Prepared

_SIGNER: Final = re.compile(rb'"camliSigner":\s*"([a-z0-9]+-[0-9a-f]+)"')
_MODULE: Final = f"{__package__}.workers"
_MAX_KEY_SIZE: Final = 64 * 1024
_PAGES_AHEAD: Final = 3
"""Pages that wait for each process, so that none of them idles."""

_MOST_KNOWN: Final = 200_000

Page = dict[Ref, bytes]


class _ElsewhereError(Exception):
    """Raised in a process for a blob that it was not given."""


class _Given:
    """The keys that came with a page."""

    def __init__(self, keys: Mapping[Ref, bytes]) -> None:
        self._keys = keys

    def fetch(self, ref: Ref) -> bytes:
        key = self._keys.get(ref)
        if key is None:
            raise _ElsewhereError
        return key

    def read_range(self, *_: object) -> bytes:
        """No file is read here."""
        raise _ElsewhereError


_sent: set[bytes] = set()
"""In a process: rows of ends of words that it has sent, and that its parent has or will have."""


def _work(page: list[tuple[Ref, bytes]], keys: dict[Ref, bytes], zone: tzinfo) -> list[Outcome]:
    """In a process: what can be said of these blobs with these keys alone."""
    given = _Given(keys)
    outcomes = []
    for ref, data in page:
        try:
            outcomes.append(_prepared(extract(ref, data, given, zone)))
        except _ElsewhereError:
            continue
    return outcomes


def _prepared(outcome: Outcome) -> Outcome:
    """With all rows that follow from its own, unless one needs the writer's attention."""
    rows: list[Row] = []
    for row in outcome.rows:
        if len(row[0]) + len(row[1]) >= MAX_PLAIN_ROW:
            return outcome
        rows.append(row)
        for derived in derived_rows(row):
            if not derived[0].startswith(END):
                rows.append(derived)
            elif derived[0] not in _sent:
                if len(_sent) >= _MOST_KNOWN:
                    _sent.clear()
                _sent.add(derived[0])
                rows.append(derived)
    return outcome._replace(rows=Prepared(rows))


class _Process:
    """A process of this program, asked by one thread at a time.

    A program of its own, not a fork: this process may have threads, and locks of LevelDB.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, question: object) -> list[Outcome]:
        """The answer to a question; nothing from a process that has died."""
        out, back = self._process.stdin, self._process.stdout
        assert out is not None
        assert back is not None
        try:
            pickle.dump(question, out, pickle.HIGHEST_PROTOCOL)
            out.flush()
            answer: list[Outcome] = pickle.load(back)  # noqa: S301 - our own process
        except (OSError, EOFError, pickle.UnpicklingError):
            return []  # the caller does what was not answered
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    """In a process: answer questions until the parent is gone."""
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            page, keys, zone = pickle.load(questions)  # noqa: S301 - from our own parent
        except EOFError:
            return
        pickle.dump(_work(page, keys, zone), answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


class Workers:
    """Some processes. Used by one thread.

    blobs: where keys are, and whatever else a blob needs. count: None: one for each processor.
    """

    def __init__(self, blobs: Source, zone: tzinfo, count: int | None = None) -> None:
        self._blobs = blobs
        self._zone = zone
        self._count = count or os.cpu_count() or 1
        self._keys: dict[Ref, bytes | None] = {}
        self._processes = [_Process() for _ in range(self._count)]
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._pool = ThreadPoolExecutor(self._count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.close()
        self._pool.shutdown()

    def outcomes(self, pages: Iterable[Page]) -> Iterator[tuple[Page, list[Outcome]]]:
        """Yield each page with the outcomes of its blobs, in order.

        The store is asked for what a page needs when it is handed out or yielded; what it raises
        goes to the caller.
        """
        waiting: deque[tuple[Page, Future[list[Outcome]]]] = deque()
        for page in pages:
            waiting.append((page, self._handed_out(page)))
            if len(waiting) > self._count * _PAGES_AHEAD:
                yield self._finished(*waiting.popleft())
        while waiting:
            yield self._finished(*waiting.popleft())

    def _handed_out(self, page: Page) -> "Future[list[Outcome]]":
        signed: list[tuple[Ref, bytes]] = []
        keys: dict[Ref, bytes] = {}
        for ref, data in page.items():
            found = _SIGNER.search(data) if data[:1] == b"{" else None
            signer = parse_ref(found[1].decode()) if found is not None else None
            key = None if signer is None else self._key(signer)
            if key is not None and signer is not None:
                signed.append((ref, data))
                keys[signer] = key
        return self._pool.submit(self._ask, (signed, keys, self._zone))

    def _ask(self, question: object) -> list[Outcome]:
        process = self._idle.get()
        try:
            return process.ask(question)
        finally:
            self._idle.put(process)

    def _key(self, signer: Ref) -> bytes | None:
        """The key blob, if the store has it and it can be one."""
        if signer not in self._keys:
            try:
                key = self._blobs.fetch(signer)
            except (NotFound, Corrupt):
                return None  # perhaps it is still to come
            self._keys[signer] = key if len(key) <= _MAX_KEY_SIZE else None
        return self._keys[signer]

    def _finished(self, page: Page, future: "Future[list[Outcome]]") -> tuple[Page, list[Outcome]]:
        done = {outcome.ref: outcome for outcome in future.result()}
        source = LocalFirst(page, Recent(), self._blobs)
        return page, [
            done.get(ref) or extract(ref, data, source, self._zone) for ref, data in page.items()
        ]


if __name__ == "__main__":
    _serve()
