"""Processes that work out rows: most of an index's time goes into checking signatures.

Only blobs that need nothing but the key of their signer are handed out; the parent, who has the
store, does the others, and is the only one who writes.
"""

import marshal
import os
import pickle
import re
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import tzinfo
from queue import SimpleQueue
from typing import IO, Final, NamedTuple, Never, Self, cast

from ..blob import Ref, parse_ref
from ..errors import Corrupt, NotFound
from .derived import END, derived_rows
from .extract import Outcome, extract
from .sources import LocalFirst, Recent, Source
from .writer import MAX_PLAIN_ROW, Prepared

_SIGNER: Final = re.compile(rb'"camliSigner":\s*"([a-z0-9]+-[0-9a-f]+)"')
_SIGNATURE: Final = b'"camliSig"'
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

    def begun(self, *_: object) -> Never:
        raise _ElsewhereError


_LENGTH: Final = struct.Struct("<Q")

_sent: set[bytes] = set()
"""In a process: rows of ends of words that it has sent, and that its parent has or will have."""


class _Question(NamedTuple):
    """refs: a line each. keys: blobs of public keys by ref. zone: pickled."""

    refs: str
    blobs: list[bytes]
    keys: dict[str, bytes]
    zone: bytes


_Answer = list[tuple[str, list[bytes]] | None]
"""For each blob its MIME, and keys and values of all its rows in turn; None: the parent's work.

Plain types only, as are those of a question: `marshal` takes a tenth of the time of `pickle`.
"""


def _work(question: _Question) -> _Answer:
    """In a process: what can be said of these blobs with these keys alone."""
    given = _Given({Ref.trusted(ref): key for ref, key in question.keys.items()})
    zone: tzinfo = pickle.loads(question.zone)  # noqa: S301 - from our own parent
    answer: _Answer = []
    for ref, data in zip(question.refs.split("\n"), question.blobs, strict=True):
        try:
            outcome = extract(Ref.trusted(ref), data, given, zone)
        except _ElsewhereError:
            answer.append(None)
            continue
        rows = None if outcome.needs or outcome.refused or outcome.deletion else _packed(outcome)
        answer.append(None if rows is None else (outcome.mime, rows))
    return answer


def _packed(outcome: Outcome) -> list[bytes] | None:
    """All rows with those that follow from them, unless one needs the writer's attention."""
    packed: list[bytes] = []
    for row in outcome.rows:
        if len(row[0]) + len(row[1]) >= MAX_PLAIN_ROW:
            return None
        packed += row
        for derived in derived_rows(row):
            if derived[0].startswith(END):
                if derived[0] in _sent:
                    continue
                if len(_sent) >= _MOST_KNOWN:
                    _sent.clear()
                _sent.add(derived[0])
            packed += derived
    return packed


def _unpacked(ref: Ref, size: int, mime: str, packed: list[bytes]) -> Outcome:
    rows = iter(packed)
    return Outcome(ref, size, mime, Prepared(zip(rows, rows, strict=True)))


def _send(out: IO[bytes], message: tuple[object, ...] | list[object]) -> None:
    data = marshal.dumps(message)  # type: ignore[arg-type]  # plain types all the way down
    out.write(_LENGTH.pack(len(data)))
    out.write(data)
    out.flush()


def _received(source: IO[bytes]) -> object:
    """Raises EOFError when the other side is gone."""
    head = source.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return marshal.loads(source.read(_LENGTH.unpack(head)[0]))  # noqa: S302 - our own process


class _Process:
    """A process of this program, asked by one thread at a time.

    A program of its own, not a fork: this process may have threads, and locks of LevelDB.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, question: _Question) -> _Answer:
        """The answer to a question; without anything in it from a process that has died."""
        out, back = self._process.stdin, self._process.stdout
        assert out is not None
        assert back is not None
        try:
            _send(out, tuple(question))
            return cast(_Answer, _received(back))
        except (OSError, EOFError):
            return [None] * len(question.blobs)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    """In a process: answer questions until the parent is gone."""
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            refs, blobs, keys, zone = cast(_Question, _received(questions))
        except EOFError:
            return
        _send(answers, list(_work(_Question(refs, blobs, keys, zone))))


class Workers:
    """Some processes. Used by one thread.

    blobs: where keys are, and whatever else a blob needs. count: None: one for each processor.
    """

    def __init__(self, blobs: Source, zone: tzinfo, count: int | None = None) -> None:
        self._blobs = blobs
        self._zone = zone
        self._packed_zone = pickle.dumps(zone)
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
        waiting: deque[tuple[Page, list[Ref], Future[_Answer]]] = deque()
        for page in pages:
            waiting.append((page, *self._handed_out(page)))
            if len(waiting) > self._count * _PAGES_AHEAD:
                yield self._finished(*waiting.popleft())
        while waiting:
            yield self._finished(*waiting.popleft())

    def _handed_out(self, page: Page) -> "tuple[list[Ref], Future[_Answer]]":
        """The signed blobs of a page, and what will be known of them."""
        signed = [ref for ref, data in page.items() if _SIGNATURE in data and data[:1] == b"{"]
        blobs = [page[ref] for ref in signed]
        keys = {}
        for name in set(_SIGNER.findall(b"\n".join(blobs))):
            signer = parse_ref(name.decode())
            key = None if signer is None else self._key(signer)
            if key is not None:
                keys[name.decode()] = key
        question = _Question("\n".join(signed), blobs, keys, self._packed_zone)
        return signed, self._pool.submit(self._ask, question)

    def _ask(self, question: _Question) -> _Answer:
        if not question.blobs:
            return []
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

    def _finished(
        self, page: Page, signed: list[Ref], future: "Future[_Answer]"
    ) -> tuple[Page, list[Outcome]]:
        done = dict(zip(signed, future.result(), strict=True))
        source = LocalFirst(page, Recent(), self._blobs)
        outcomes = []
        for ref, data in page.items():
            found = done.get(ref)
            if found is None:
                outcomes.append(extract(ref, data, source, self._zone))
            else:
                outcomes.append(_unpacked(ref, len(data), *found))
        return page, outcomes


if __name__ == "__main__":
    _serve()
