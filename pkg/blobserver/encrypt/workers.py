"""Processes that seal, beside the one that writes (README.md, "Sealing in processes").

They are given the public key and no other. A blob passes through memory that both sides share,
where it is replaced by the sealed one; what is asked and answered are lines of text.
"""

import gc
import mmap
import os
import select
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, suppress
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from ...blob import Ref
from .age import Envelope, Recipient
from .sealing import VERSION, check_size, full_size

_MODULE: Final = f"{__package__}.workers"

_LARGEST_BYTES: Final = 1 << 20
"""Of a blob that a process is given; larger ones are seldom."""

_PIECE_BYTES: Final = 256 << 10
_PIECE_COUNT: Final = 32
"""What a process is asked for in one go, unless a single blob has more."""

_SLOT_BYTES: Final = full_size(_LARGEST_BYTES) + _PIECE_COUNT * full_size(0)
_SLOTS: Final = 6
"""Pieces that a process has or has done: as much as it seals while a lot is written."""

_LOT_BYTES: Final = 1 << 20
_BLOB_COST_BYTES: Final = 64 << 10
"""Beginning to seal a blob costs as much as so many bytes of it."""

_WORTHWHILE_BYTES: Final = 2 << 20
"""With the cost of beginning: smaller batches are sealed before a process knows of them."""

_MOST_PROCESSES: Final = 2
_STARTS: Final = 8
"""How often a process may be started: those that die are replaced, but not for ever."""

_PATIENCE_S: Final = 20.0
"""A process that has not answered for so long is taken for dead."""

_ENVELOPES: Final = 256
"""Made by a process while nothing is asked of it."""


class Sealed(NamedTuple):
    """A blob, and what is stored of it. size: of the blob itself, in bytes."""

    ref: Ref
    size: int
    name: Ref
    data: bytes


Piece = list[tuple[Ref, bytes]]


class Workers:
    """Seals batches of blobs. Safe to use from many threads.

    A process that dies, or is killed, is not missed: what it had is sealed here.

    count: of processes; None: one less than there are processors, at most two.
    """

    def __init__(self, recipient: Recipient, count: int | None = None) -> None:
        self._recipient = recipient
        self._count = _usual_count() if count is None else count
        self._starts = _STARTS
        self._processes: list[_Process] = []
        self._lock = threading.Lock()  # whoever finds it held seals alone

    def sealed(self, blobs: Mapping[Ref, bytes]) -> Generator[list[Sealed], None, None]:
        """Yield all blobs, in any order, in lots of about a MiB; close it when you leave it early.

        Raises TooLarge before the first.
        """
        for ref, data in blobs.items():
            check_size(ref, len(data))
        pieces = deque(_pieces(blobs))
        lot: list[Sealed] = []
        with closing(self._sealed_pieces(pieces, _cost(blobs))) as found:
            for piece in found:
                lot += piece
                if sum(len(one.data) for one in lot) >= _LOT_BYTES:
                    yield lot
                    lot = []
        if lot:
            yield lot

    def close(self) -> None:
        for process in self._processes:
            process.close()
        self._processes.clear()

    def _sealed_pieces(
        self, pieces: deque[Piece], cost_bytes: int
    ) -> Generator[list[Sealed], None, None]:
        if cost_bytes >= _WORTHWHILE_BYTES and self._lock.acquire(blocking=False):
            try:
                self._start()
                yield from self._side_by_side(pieces)
            finally:
                self._leave()
                self._lock.release()
        for piece in pieces:
            yield self._seal(piece)

    def _start(self) -> None:
        while len(self._processes) < self._count and self._starts:
            self._starts -= 1
            try:
                self._processes.append(_Process(self._recipient))
            except OSError:
                return

    def _side_by_side(self, pieces: deque[Piece]) -> Iterator[list[Sealed]]:
        """Hand out pieces, and seal others here meanwhile, until none is left."""
        while True:
            for process in self._processes:
                while pieces and process.has_room and len(pieces[0][0][1]) <= _LARGEST_BYTES:
                    process.ask(pieces.popleft())
            busy = [process for process in self._processes if process.asked]
            if not busy and not pieces:
                return
            waiting = self._processes if pieces else busy
            answered = select.select(waiting, [], [], 0 if pieces else _PATIENCE_S)[0]
            for process in answered:
                yield from process.answers()
            if not answered and pieces:
                yield self._seal(pieces.popleft())
            elif not answered:
                for process in busy:
                    process.close()
            for process in [process for process in waiting if process.is_closed]:
                self._processes.remove(process)
                pieces.extend(process.asked)

    def _leave(self) -> None:
        """End those whose answers nobody waits for any more: after an error, or a generator that
        was left."""
        for process in [process for process in self._processes if process.asked]:
            process.close()
            self._processes.remove(process)

    def _seal(self, piece: Piece) -> list[Sealed]:
        made = []
        for ref, data in piece:
            sealed = self._recipient.seal(data, VERSION)
            made.append(Sealed(ref, len(data), Ref.of(sealed), sealed))
        return made


def _usual_count() -> int:
    return min(_MOST_PROCESSES, (os.cpu_count() or 1) - 1)


def _cost(blobs: Mapping[Ref, bytes]) -> int:
    return sum(map(len, blobs.values())) + len(blobs) * _BLOB_COST_BYTES


def _pieces(blobs: Mapping[Ref, bytes]) -> Iterator[Piece]:
    piece: Piece = []
    size = 0
    for ref, data in blobs.items():
        if piece and (size + len(data) > _PIECE_BYTES or len(piece) >= _PIECE_COUNT):
            yield piece
            piece, size = [], 0
        piece.append((ref, data))
        size += len(data)
    if piece:
        yield piece


def _places(sizes: list[int], begin: int) -> Iterator[tuple[int, int]]:
    """Yield for blobs of these sizes where in memory each lies, and where it ends when sealed."""
    ends = list(accumulate(map(full_size, sizes), initial=begin))
    return pairwise(ends)


class _Process:
    """A process of this program, asked by one thread at a time.

    A program of its own, not a fork: this process may have threads, and locks of LevelDB.

    asked: what it has not answered, the oldest first. is_closed: it was, or it has died.
    """

    def __init__(self, recipient: Recipient) -> None:
        """Raises OSError. It has room as soon as it has said that it is there."""
        self.asked: deque[Piece] = deque()
        self.is_closed = False
        self._is_there = False
        self._next = 0
        self._answers = b""
        descriptor = os.memfd_create("sealing") if sys.platform == "linux" else _no_memory()
        try:
            os.ftruncate(descriptor, _SLOTS * _SLOT_BYTES)
            self._memory = mmap.mmap(descriptor, _SLOTS * _SLOT_BYTES)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", _MODULE, str(descriptor), recipient.text],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                pass_fds=[descriptor],
                process_group=0,  # an interrupt from the terminal is not for it
            )  # fmt: skip
        finally:
            os.close(descriptor)

    @property
    def has_room(self) -> bool:
        return self._is_there and not self.is_closed and len(self.asked) < _SLOTS

    def fileno(self) -> int:
        """Of its answers."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def ask(self, piece: Piece) -> None:
        """Seal these; `has_room` must be true."""
        begin = self._next * _SLOT_BYTES
        self._next = (self._next + 1) % _SLOTS
        sizes = [len(data) for _, data in piece]
        for (at, _), (_, data) in zip(_places(sizes, begin), piece, strict=True):
            self._memory[at : at + len(data)] = data
        self.asked.append(piece)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its death is seen where its answers end
            self._process.stdin.write(b"%d %s\n" % (begin, b" ".join(b"%d" % n for n in sizes)))

    def answers(self) -> Iterator[list[Sealed]]:
        """Yield what it has sealed. Call it when there is something to read."""
        read = os.read(self.fileno(), 1 << 16)
        *lines, self._answers = (self._answers + read).split(b"\n")
        for line in lines:
            if not self._is_there:
                self._is_there = True
                continue
            yield self._taken(line.decode("ascii").split(" "))
        if not read:
            self.close()

    def _taken(self, names: list[str]) -> list[Sealed]:
        slot = (self._next - len(self.asked)) % _SLOTS
        piece = self.asked.popleft()
        places = _places([len(data) for _, data in piece], slot * _SLOT_BYTES)
        return [
            Sealed(ref, len(data), Ref.trusted(name), self._memory[at:end])
            for (ref, data), name, (at, end) in zip(piece, names, places, strict=True)
        ]

    def close(self) -> None:
        self.is_closed = True
        self._process.kill()
        self._process.communicate()
        self._memory.close()


def _no_memory() -> int:
    raise OSError("shared memory without a name: Linux only")


def _serve(memory: mmap.mmap, recipient: Recipient) -> None:
    """In a process: seal what is asked for until the parent is gone."""
    envelopes: list[Envelope] = []
    questions = b""
    os.write(1, b"\n")
    while True:
        while len(envelopes) < _ENVELOPES and not select.select([0], [], [], 0)[0]:
            envelopes.append(recipient.envelope())
        read = os.read(0, 1 << 16)
        if not read:
            return
        *lines, questions = (questions + read).split(b"\n")
        for line in lines:
            begin, *sizes = map(int, line.split(b" "))
            names = []
            for size, (at, end) in zip(sizes, _places(sizes, begin), strict=True):
                envelope = envelopes.pop() if envelopes else None
                sealed = recipient.seal(memory[at : at + size], VERSION, envelope)
                memory[at:end] = sealed
                names.append(Ref.of(sealed))
            os.write(1, " ".join(names).encode() + b"\n")


def main() -> None:
    gc.freeze()  # what is here by now stays
    descriptor = int(sys.argv[1])
    with mmap.mmap(descriptor, 0) as memory:
        _serve(memory, Recipient(sys.argv[2]))


if __name__ == "__main__":
    main()
