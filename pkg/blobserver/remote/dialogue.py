"""What is under way with a server over the stream, and how it goes on after a cut. Pure.

A `ClientMachine` lives as long as its connection. A Dialogue lives on: it hands uploads and
questions to the machine of the day, and after a cut asks again what has no answer.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from ...blob import Ref
from ...errors import (
    Corrupt,
    Forbidden,
    Invalid,
    NotFound,
    ReadOnly,
    StoreError,
    TooLarge,
    Unavailable,
    Unsupported,
)
from .. import wire
from ..wire import ClientMachine, Code, events

REFS_AT_ONCE: Final = 500
"""Of one question: also the longest refs fit into the least message."""

TRIES: Final = 4
"""How often an upload or question is made that the server answers by "try again"."""

_ERRORS: Final[dict[int, type[StoreError]]] = {
    Code.MALFORMED: Invalid,
    Code.FORBIDDEN: Forbidden,
    Code.NOT_FOUND: NotFound,
    Code.DAMAGED: Corrupt,
    Code.GONE: NotFound,
    Code.TOO_LARGE: TooLarge,
    Code.MISMATCH: Invalid,
    Code.UNSUPPORTED: Unsupported,
    Code.NO_SPACE: ReadOnly,
}


def error_of(code: int, operation: str, subject: object, text: str) -> StoreError:
    """The error of the tree for a code of the stream."""
    reason = text.removeprefix(f"{operation} {subject}").removeprefix(": ")
    return _ERRORS.get(code, Unavailable)(operation, subject, reason)


class Upload:
    """A blob on its way. `done` is called once: then `error` is None, or why it is not stored.

    data: as it travels; `size` bytes when unpacked. It is dropped when the answer has come.
    """

    __slots__ = ("data", "done", "error", "no_rush", "packed", "ref", "size", "tries", "was_sent")

    def __init__(
        self,
        ref: Ref,
        data: bytes,
        done: Callable[["Upload"], None],
        *,
        size: int | None = None,
        packed: bool = False,
        no_rush: bool = False,
    ) -> None:
        self.ref = ref
        self.data = data
        self.size = len(data) if size is None else size
        self.packed = packed
        self.no_rush = no_rush
        self.done = done
        self.error: StoreError | None = None
        self.tries = 0
        self.was_sent = False
        """Some of it has left on a connection that was cut: the server may have it."""

    def end(self, error: StoreError | None) -> None:
        self.error = error
        self.data = b""
        self.done(self)


class Question(ABC):
    """Something asked, and where its answers go. No method may wait for anything."""

    tries = 0
    is_paused = False
    """It was stopped because it was full: to be asked again when its reader has taken all."""

    @property
    def is_full(self) -> bool:
        """Whether so much waits for its reader that no more should come."""
        return False

    @property
    @abstractmethod
    def is_wanted(self) -> bool:
        """Whether anything of it is still to be answered, for somebody who still listens."""

    @abstractmethod
    def ask(self, machine: ClientMachine) -> int:
        """Ask for what has no answer yet; returns the number of the request."""

    @abstractmethod
    def take(self, event: events.Event, hold: Callable[[events.Blob], "Held"]) -> None:
        """An answer. hold: to be called for a Blob that is kept."""

    @abstractmethod
    def fail(self, error: StoreError) -> None:
        """There will be no answer."""


class Held:
    """A blob that has come and counts against the credit until it is released."""

    __slots__ = ("blob", "dialogue", "machine")

    def __init__(
        self, blob: events.Blob, dialogue: "Dialogue", machine: ClientMachine | None
    ) -> None:
        self.blob = blob
        self.dialogue = dialogue
        self.machine = machine

    def release(self) -> None:
        """More may come in its place. Nothing happens the second time."""
        machine, self.machine = self.machine, None
        if machine is not None:
            self.dialogue.held.pop(id(self), None)
            machine.release(self.blob)


class Dialogue:
    """Uploads and questions. One thread at a time; `connected` comes before everything."""

    def __init__(self, new_machine: Callable[[float], ClientMachine]) -> None:
        self._new_machine = new_machine
        self.machine: ClientMachine | None = None
        self.held: dict[int, Held] = {}
        self.answers = 0
        """Grows with all that comes: a connection that brought nothing is no progress."""
        self.unanswered_bytes = 0
        """Of uploads."""
        self._queue: deque[Upload] = deque()  # not with the machine
        self._sent: dict[int, Upload] = {}  # with the machine, by request
        self._refused: list[Upload] = []  # to be tried again at the next tick
        self._checks = 0  # questions after a cut; uploads wait for them
        self._waiting: deque[Question] = deque()
        self._asked: dict[int, Question] = {}

    # -- what is wanted --------------------------------------------------------------------------

    def put(self, upload: Upload) -> None:
        self.unanswered_bytes += len(upload.data)
        self._queue.append(upload)

    def ask(self, question: Question) -> None:
        question.is_paused = False
        self._waiting.append(question)

    def stop(self, question: Question) -> None:
        """Nobody listens any more. Its `is_wanted` is False from now on."""
        for request, other in self._asked.items():
            if other is question and self.machine is not None:
                self.machine.stop(request)
        if question in self._waiting:
            self._waiting.remove(question)

    def withdraw(self, upload: Upload) -> None:
        """Nobody waits for it any more: what has not left stays here. `done` may still be called,
        and the server may have it."""
        for waiting in (self._queue, self._refused):
            if upload in waiting:
                waiting.remove(upload)
                self.unanswered_bytes -= len(upload.data)
                return
        for request, other in self._sent.items():
            if other is upload and self.machine is not None and self.machine.withdraw(request):
                del self._sent[request]
                self.unanswered_bytes -= len(upload.data)
                return

    def relieve(self) -> None:
        """Let more come than was to be held: somebody waits for what is behind it."""
        for held in list(self.held.values()):
            held.release()

    @property
    def has_work(self) -> bool:
        return bool(self._queue or self._sent or self._refused or self._waiting or self._asked)

    @property
    def has_output(self) -> bool:
        """Whether something is to be sent, though it may have to wait for credit."""
        assert self.machine is not None
        return bool(self._waiting or self._queue) or self.machine.has_output

    # -- the connection --------------------------------------------------------------------------

    def connected(self, now: float) -> None:
        """A new connection: uploads of which some was sent are looked for first."""
        self.machine = self._new_machine(now)
        doubtful = iter([upload for upload in self._queue if upload.was_sent])
        self._checks = 0
        while some := list(islice(doubtful, REFS_AT_ONCE)):
            self._checks += 1
            self._waiting.appendleft(_Check(some, self._checked))

    def cut(self) -> None:
        """The connection is gone: what has no answer is asked again on the next."""
        machine, self.machine = self.machine, None
        if machine is None:
            return
        for pending in machine.pending():
            if pending.was_sent:
                self._sent[pending.request].was_sent = True
        # In the order in which they came: a file after its chunks.
        self._queue.extendleft(reversed([*self._sent.values(), *self._refused]))
        self._sent.clear()
        self._refused.clear()
        asked = [*self._asked.values(), *self._waiting]
        self._asked.clear()
        self.held.clear()
        self._waiting = deque(one for one in asked if one.is_wanted and not isinstance(one, _Check))

    def fail(self, error: StoreError) -> None:
        """Give everything up."""
        self.cut()
        uploads, self._queue = self._queue, deque()
        questions, self._waiting = self._waiting, deque()
        self.unanswered_bytes = 0
        for upload in uploads:
            upload.end(error)
        for question in questions:
            question.fail(error)

    def tick(self, now: float) -> None:
        """As the machine's; and what was refused for the moment is tried again."""
        assert self.machine is not None
        self._queue.extendleft(reversed(self._refused))
        self._refused.clear()
        self.machine.tick(now)

    def next_message(self, budget_bytes: int) -> bytes | None:
        """As the machine's."""
        assert self.machine is not None
        self._feed(self.machine)
        return self.machine.next_message(budget_bytes)

    def _feed(self, machine: ClientMachine) -> None:
        while self._waiting and machine.can_ask:
            question = self._waiting.popleft()
            if not question.is_wanted:
                continue
            try:
                self._asked[question.ask(machine)] = question
            except StoreError as error:
                question.fail(error)
        if self._checks:
            return
        while self._queue and machine.room > 0:
            if machine.leaves or machine.peer_leaves:
                return
            upload = self._queue[0]
            if upload.packed and not machine.peer.features & wire.FEATURE_ZSTD:
                if not machine.is_welcome:
                    return
                _unpack(upload)
            self._queue.popleft()
            self._put(machine, upload)

    def _put(self, machine: ClientMachine, upload: Upload) -> None:
        try:
            request = machine.put(
                upload.ref,
                upload.data,
                size=upload.size,
                packed=upload.packed,
                no_rush=upload.no_rush,
            )
        except StoreError as error:
            self._end(upload, error)
        else:
            self._sent[request] = upload

    # -- answers ---------------------------------------------------------------------------------

    def receive(self, message: bytes, now: float) -> None:
        """Take a message. Raises ProtocolViolation."""
        assert self.machine is not None
        for event in self.machine.receive(message, now):
            self._take(event)

    def _take(self, event: events.Event) -> None:
        match event:
            case events.Blob():
                self._blob_came(event)
            case events.Stored(requests):
                self.answers += len(requests)
                for request in requests:
                    self._end(self._sent.pop(request), None)
            case events.Failed(request=request) if request in self._sent:
                self._put_failed(self._sent.pop(request), event)
            case events.Welcome() | events.Leaving():
                pass
            case _:
                self._answered(event)

    def _put_failed(self, upload: Upload, event: events.Failed) -> None:
        leaves = self.machine is not None and self.machine.peer_leaves
        upload.tries += 0 if leaves else 1
        if event.code == Code.UNAVAILABLE and upload.tries < TRIES:
            self._refused.append(upload)
            return
        self.answers += 1
        self._end(upload, error_of(event.code, "upload", upload.ref, event.text))

    def _blob_came(self, blob: events.Blob) -> None:
        question = self._asked.get(blob.request)
        self.answers += 1
        if question is not None and question.is_wanted:
            question.take(blob, self._hold)
            self._pause_if_full(blob.request, question)
        else:  # nobody listens, or it was paused by what came with this
            assert self.machine is not None
            self.machine.release(blob)

    def _answered(self, event: events.Event) -> None:
        request: int = event.request  # type: ignore[union-attr]  # all others have one
        question = self._asked.get(request)
        if question is None:
            return
        if not isinstance(question, _Check):
            self.answers += 1
        over = isinstance(event, events.Done) or (
            isinstance(event, events.Failed) and event.item is None
        )
        over = over or (isinstance(event, events.Sizes) and event.last)
        if over:
            del self._asked[request]
        if isinstance(event, events.Failed) and over and event.code == Code.UNAVAILABLE:
            self._ask_again(question, event.text)
            return
        question.take(event, self._hold)
        if not over:
            self._pause_if_full(request, question)
        elif question.is_wanted:
            self._ask_again(question, "some items had no answer")

    def _pause_if_full(self, request: int, question: Question) -> None:
        if question.is_full and question.is_wanted:
            assert self.machine is not None
            self.machine.stop(request)
            del self._asked[request]
            question.is_paused = True

    def _ask_again(self, question: Question, text: str) -> None:
        if self.machine is not None and not self.machine.peer_leaves:
            question.tries += 1
        if question.tries < TRIES:
            self._waiting.append(question)
        else:
            question.fail(Unavailable("ask", "the server", text))

    def _hold(self, blob: events.Blob) -> Held:
        held = Held(blob, self, self.machine)
        self.held[id(held)] = held
        return held

    def _checked(self, found: Iterable[tuple[Upload, int | None]]) -> None:
        """After a cut: what is there is stored; the rest is sent again."""
        stored = {id(upload) for upload, size in found if size == upload.size}
        self._checks -= 1
        self.answers += len(stored)  # to have been asked is no progress
        kept: deque[Upload] = deque()
        for upload in self._queue:
            if id(upload) in stored:
                self._end(upload, None)
            else:
                kept.append(upload)
        self._queue = kept

    def _end(self, upload: Upload, error: StoreError | None) -> None:
        self.unanswered_bytes -= len(upload.data)
        upload.end(error)


def _unpack(upload: Upload) -> None:
    """The server that was found after a cut takes nothing compressed."""
    plain = wire.unpack(wire.Zstd(), upload.data, upload.size)
    upload.data, upload.packed = plain, False


class _Check(Question):
    """Which of these uploads has the server?"""

    def __init__(
        self,
        uploads: list[Upload],
        checked: Callable[[Iterable[tuple[Upload, int | None]]], None],
    ) -> None:
        self._uploads = uploads
        self._checked = checked
        self._sizes: list[int | None] = []

    @property
    def is_wanted(self) -> bool:
        return len(self._sizes) < len(self._uploads)

    def ask(self, machine: ClientMachine) -> int:
        self._sizes.clear()
        return machine.stat([upload.ref for upload in self._uploads])

    def take(self, event: events.Event, hold: Callable[[events.Blob], Held]) -> None:  # noqa: ARG002
        if not isinstance(event, events.Sizes):
            self.fail(Unavailable("stat", "uploads", "no answer"))
            return
        self._sizes += event.sizes
        if event.last:
            self._checked(zip(self._uploads, self._sizes, strict=True))

    def fail(self, error: StoreError) -> None:  # noqa: ARG002 - then they are sent again
        self._sizes = [None] * len(self._uploads)
        self._checked(zip(self._uploads, self._sizes, strict=True))
