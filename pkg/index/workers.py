"""Processes that work out rows: most of an index's time goes into checking signatures.

Only blobs that need nothing but the key of their signer are handed out; the parent, who has the
store, does the others, and is the only one who writes.
"""

import gc
import marshal
import os
import pickle
import re
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import tzinfo
from queue import SimpleQueue
from typing import IO, Final, NamedTuple, Never, Self, TypeVar, cast

from ..blob import Ref, parse_ref
from ..errors import Corrupt, NotFound
from . import sweep
from .derived import DIRTY, end_rows
from .extract import Outcome, extract
from .rows import Row, have_row
from .sources import LocalFirst, Recent, Source
from .sweep import Given, taken
from .writer import KnownWords, Prepared

_SIGNER: Final = re.compile(rb'"camliSigner":\s*"([a-z0-9]+-[0-9a-f]+)"')
_SIGNATURE: Final = b'"camliSig"'
_MODULE: Final = f"{__package__}.workers"
_MAX_KEY_SIZE: Final = 64 * 1024
_PAGES_AHEAD: Final = 3
"""Pages that wait for each process, so that none of them idles."""

Page = dict[Ref, bytes]
T = TypeVar("T")


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

_sent: Final = KnownWords()
"""In a process: words whose rows it has sent, and that its parent has or will have."""


class _Question(NamedTuple):
    """refs: a line each. keys: blobs of public keys by ref. zone: pickled.

    marks: whether marks of what is to be settled are among the rows.
    """

    refs: str
    blobs: list[bytes]
    keys: dict[str, bytes]
    zone: bytes
    marks: bool


class _Answer(NamedTuple):
    """mimes: for each blob; None: the parent's work. rows: of all the others, keys and values
    in turn, ascending.

    Plain types only, as in a question: `marshal` takes a tenth of the time of `pickle`.
    """

    mimes: list[str | None]
    rows: list[bytes]


def _work(*fields: object) -> _Answer:
    """In a process: what can be said of the blobs of a question with its keys alone."""
    question = _Question(*cast(_Question, fields))
    given = _Given({Ref.trusted(ref): key for ref, key in question.keys.items()})
    zone: tzinfo = pickle.loads(question.zone)  # noqa: S301 - from our own parent
    mimes: list[str | None] = []
    rows: dict[bytes, bytes] = {}
    for ref, data in zip(question.refs.split("\n"), question.blobs, strict=True):
        try:
            outcome = extract(Ref.trusted(ref), data, given, zone)
        except _ElsewhereError:
            mimes.append(None)
            continue
        mimes.append(outcome.mime if _gathered(outcome, rows, question.marks) else None)
    # In order, which spares the store that they go to most of its sorting.
    return _Answer(mimes, [part for key in sorted(rows) for part in (key, rows[key])])


def _gathered(outcome: Outcome, rows: dict[bytes, bytes], marks: bool) -> bool:
    """Add all rows of a blob and what follows from them; unless one needs the writer's care."""
    if outcome.needs is not None or outcome.refused or outcome.deletion or not outcome.is_plain:
        return False
    rows.update(outcome.rows)
    rows.update(row for row in outcome.derived if marks or not row[0].startswith(DIRTY))
    words = _sent.unknown(outcome.words)
    if words:
        _sent.add(words)
        for word in words:
            rows.update(end_rows(*word))
    rows.update((have_row(outcome.ref, outcome.size),))
    return True


def _send(out: IO[bytes], message: tuple[object, ...]) -> None:
    data = marshal.dumps(tuple(message))  # type: ignore[arg-type]  # plain types all the way down
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
            [sys.executable, "-P", "-m", _MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, task: str, question: tuple[object, ...]) -> object:
        """What a task gives for a question; None from a process that has died."""
        out, back = self._process.stdin, self._process.stdout
        assert out is not None
        assert back is not None
        try:
            _send(out, (task, *question))
            return _received(back)
        except (OSError, EOFError):
            return None

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _taken(owner_key_ids: list[str], *permanodes: Given) -> tuple[list[bytes]]:
    return (taken(owner_key_ids, permanodes),)


_TASKS: Final[dict[str, Callable[..., tuple[object, ...]]]] = {"blobs": _work, "claims": _taken}
"""What a process can be asked."""


def _serve() -> None:
    """In a process: answer questions until the parent is gone."""
    gc.freeze()  # what is here by now stays
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            task, *question = cast(list[object], _received(questions))
        except EOFError:
            return
        _send(answers, _TASKS[cast(str, task)](*question))


class Worked(NamedTuple):
    """A page that was worked out: blobs that the writer has to look at, and all the others."""

    outcomes: list[Outcome]
    prepared: Prepared


class Workers:
    """Some processes. Used by one thread.

    blobs: where keys are, and whatever else a blob needs. marks: whether what they prepare is
    marked to be settled. count: None: one for each processor.
    """

    def __init__(
        self, blobs: Source, zone: tzinfo, marks: bool = True, count: int | None = None
    ) -> None:
        self._blobs = blobs
        self._zone = zone
        self._marks = marks
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

    def outcomes(self, pages: Iterable[Page]) -> Iterator[tuple[Page, Worked]]:
        """Yield each page with what came of its blobs, in order.

        The store is asked for what a page needs when it is handed out or yielded; what it raises
        goes to the caller.
        """
        asked = (
            ((page, signed), self._ask("blobs", q))
            for page in pages
            for signed, q in [self._handed_out(page)]
        )
        for (page, signed), answer in self._in_order(asked):
            yield self._finished(page, signed, answer)

    def snapshots(
        self, pages: Iterable[sweep.Page], owner_key_ids: Sequence[str]
    ) -> Iterator[tuple[sweep.Page, list[Row] | None]]:
        """Yield each page with the rows of the snapshots in it, in order; None: none came."""
        owners = list(owner_key_ids)
        asked = ((page, self._ask("claims", (owners, *map(tuple, page.given)))) for page in pages)
        for page, answer in self._in_order(asked):
            yield page, None if answer is None else _pairs(cast(list[list[bytes]], answer)[0])

    def _in_order(self, asked: Iterable[tuple[T, Future[object]]]) -> Iterator[tuple[T, object]]:
        """Yield the answers as they were asked for, while some more are worked on."""
        waiting: deque[tuple[T, Future[object]]] = deque()
        for one in asked:
            waiting.append(one)
            if len(waiting) > self._count * _PAGES_AHEAD:
                subject, future = waiting.popleft()
                yield subject, future.result()
        for subject, future in waiting:
            yield subject, future.result()

    def _handed_out(self, page: Page) -> tuple[list[Ref], _Question]:
        """The signed blobs of a page, and what to ask about them."""
        signed = [ref for ref, data in page.items() if _SIGNATURE in data and data[:1] == b"{"]
        blobs = [page[ref] for ref in signed]
        keys = {}
        for name in set(_SIGNER.findall(b"\n".join(blobs))):
            signer = parse_ref(name.decode())
            key = None if signer is None else self._key(signer)
            if key is not None:
                keys[name.decode()] = key
        return signed, _Question("\n".join(signed), blobs, keys, self._packed_zone, self._marks)

    def _ask(self, task: str, question: tuple[object, ...]) -> Future[object]:
        return self._pool.submit(self._ask_idle, task, question)

    def _ask_idle(self, task: str, question: tuple[object, ...]) -> object:
        process = self._idle.get()
        try:
            return process.ask(task, question)
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

    def _finished(self, page: Page, signed: list[Ref], answer: object) -> tuple[Page, Worked]:
        mimes: list[str | None] = [None] * len(signed)
        packed: list[bytes] = []
        if answer is not None:
            mimes, packed = cast(_Answer, answer)
        done = {ref: mime for ref, mime in zip(signed, mimes, strict=True) if mime is not None}
        source = LocalFirst(page, Recent(), self._blobs)
        outcomes = [
            extract(ref, data, source, self._zone) for ref, data in page.items() if ref not in done
        ]
        return page, Worked(outcomes, Prepared(done, _pairs(packed)))


def _pairs(packed: list[bytes]) -> list[Row]:
    parts = iter(packed)
    return list(zip(parts, parts, strict=True))


if __name__ == "__main__":
    _serve()
