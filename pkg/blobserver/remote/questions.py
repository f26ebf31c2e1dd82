"""What can be asked over the stream, and how the answers are kept until somebody takes them."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

from ...blob import Ref
from ...errors import Corrupt, NotFound, StoreError
from .. import wire
from ..framing import Found
from ..wire import ClientMachine, Code, events
from .dialogue import REFS_AT_ONCE, Dialogue, Held, Question, error_of
from .pushed import Arrival

AHEAD_BYTES: Final = 8 * 1024 * 1024
"""What a reader asks for beyond what it has taken, by the mean size of what has come."""

TAKEN_AT_ONCE_BYTES: Final = 256 * 1024
"""What is taken before the server is told; also of the least window only a part."""

PILED_BYTES: Final = 16 * 1024 * 1024
"""Of a file whose reader rests, at most, and one blob more. A window of credit fits in."""

PILED_EVENTS: Final = 256

FIRST_AHEAD: Final = 64
LEAST_AHEAD: Final = 8

Hold = Callable[[events.Blob], Held]


_codecs: Final = threading.local()


def unpacked(blob: events.Blob) -> bytes:
    """The bytes of a blob. Raises Corrupt."""
    if not blob.packed:
        return bytes(blob.data)
    codec: wire.Zstd | None = getattr(_codecs, "codec", None)
    if codec is None:
        codec = _codecs.codec = wire.Zstd()
    return wire.unpack(codec, blob.data, blob.size)


class Sizes(Question):
    """STAT: the sizes of these refs, in their order, once `is_wanted` is False."""

    def __init__(self, refs: Sequence[Ref]) -> None:
        self._refs = refs
        self.sizes: list[int | None] = []
        self.error: StoreError | None = None

    @property
    def is_wanted(self) -> bool:
        return self.error is None and len(self.sizes) < len(self._refs)

    def ask(self, machine: ClientMachine) -> int:
        self.sizes.clear()
        return machine.stat(self._refs)

    def take(self, event: events.Event, hold: Hold) -> None:  # noqa: ARG002
        if isinstance(event, events.Sizes):
            self.sizes += event.sizes
        elif isinstance(event, events.Failed):
            self.error = error_of(event.code, "stat", f"{len(self._refs)} blobs", event.text)

    def fail(self, error: StoreError) -> None:
        self.error = error


class Slot:
    """Where one wanted blob comes to."""

    __slots__ = ("found", "ref")

    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        self.found: Held | StoreError | None = None

    def result(self) -> tuple[Ref, Found]:
        """The blob, verified, or NotFound or Corrupt. Raises other errors."""
        found = self.found
        if not isinstance(found, Held):
            if isinstance(found, (NotFound, Corrupt)):
                return self.ref, found
            assert found is not None
            raise found
        try:
            data = unpacked(found.blob)
        except Corrupt as error:
            return self.ref, error
        if not self.ref.matches(data):
            return self.ref, Corrupt("fetch", self.ref, "the bytes received do not match it")
        return self.ref, data


class Fetching(Question):
    """FETCH: fills slots, in any order."""

    def __init__(self, slots: Sequence[Slot], priority: int) -> None:
        self._slots = slots
        self._priority = priority
        self._asked: list[Slot] = []
        self._missing = len(slots)

    @property
    def is_wanted(self) -> bool:
        return self._missing > 0

    def give_up(self) -> None:
        self._missing = 0

    def ask(self, machine: ClientMachine) -> int:
        self._asked = [slot for slot in self._slots if slot.found is None]
        return machine.fetch((slot.ref for slot in self._asked), priority=self._priority)

    def take(self, event: events.Event, hold: Hold) -> None:
        if isinstance(event, events.Blob):
            self._fill(self._asked[event.item], hold(event))
        elif isinstance(event, events.Failed):
            if event.item is None:
                self.fail(error_of(event.code, "fetch", f"{len(self._asked)} blobs", event.text))
            elif event.code != Code.UNAVAILABLE:  # else it is asked for again
                slot = self._asked[event.item]
                self._fill(slot, error_of(event.code, "fetch", slot.ref, event.text))

    def fail(self, error: StoreError) -> None:
        for slot in self._slots:
            if slot.found is None:
                self._fill(slot, error)

    def _fill(self, slot: Slot, found: Held | StoreError) -> None:
        slot.found = found
        self._missing -= 1


class Window:
    """Blobs in the order asked for, of which some are always on their way.

    Call `fill`; wait for the `first` to be filled, take what is `filled`, and `drop` that.
    """

    def __init__(self, dialogue: Dialogue, refs: Iterable[Ref], priority: int) -> None:
        self._dialogue = dialogue
        self._refs: Iterator[Ref] = iter(refs)
        self._priority = priority
        self._slots: deque[Slot] = deque()
        self._asked: deque[Fetching] = deque()
        self._is_last = False
        self._taken = 0
        self._taken_bytes = 0

    def next_refs(self) -> list[Ref]:
        """Refs to be asked for now; often none. It may call on the giver of refs, for long."""
        ahead = self._ahead()
        if self._is_last or len(self._slots) > ahead // 2:
            return []
        refs = list(islice(self._refs, min(ahead - len(self._slots), REFS_AT_ONCE)))
        self._is_last = not refs
        return refs

    def fill(self, refs: Sequence[Ref]) -> None:
        """Ask for these."""
        slots = [Slot(ref) for ref in refs]
        self._slots += slots
        question = Fetching(slots, self._priority)
        self._asked.append(question)
        while not self._asked[0].is_wanted:
            self._asked.popleft()
        self._dialogue.ask(question)

    def first(self) -> Slot | None:
        """The slot of the next blob, filled or not; None at the end."""
        return self._slots[0] if self._slots else None

    def filled(self) -> list[Slot]:
        """The first slots that are filled, up to some bytes: to be taken, then dropped."""
        filled, size = [], 0
        for slot in self._slots:
            if slot.found is None or size >= TAKEN_AT_ONCE_BYTES:
                break
            filled.append(slot)
            size += slot.found.blob.size if isinstance(slot.found, Held) else 0
        return filled

    def drop(self, count: int = 1) -> None:
        """The first ones are taken."""
        for _ in range(count):
            slot = self._slots.popleft()
            self._taken += 1
            if isinstance(slot.found, Held):
                self._taken_bytes += slot.found.blob.size
                slot.found.release()

    def close(self) -> None:
        """Nothing more is wanted."""
        for slot in self._slots:
            if isinstance(slot.found, Held):
                slot.found.release()
        for question in self._asked:
            question.give_up()
            self._dialogue.stop(question)

    def _ahead(self) -> int:
        if not self._taken_bytes:
            return FIRST_AHEAD
        mean_bytes = self._taken_bytes // self._taken + 256
        return max(LEAST_AHEAD, min(2 * REFS_AT_ONCE, AHEAD_BYTES // mean_bytes))


class Chunk(NamedTuple):
    """Bytes of a file, or (`data` None) zeros; `ref` of the blob that they lie in."""

    offset: int
    length: int
    ref: Ref | None
    data: bytes | None


class Reading(Question):
    """FILE: the content of a file from some offset on, in order.

    with_schema: the blobs that describe it, too, each before what it describes.
    """

    def __init__(
        self,
        ref: Ref,
        offset: int,
        length: int | None,
        priority: int,
        *,
        with_schema: bool = False,
    ) -> None:
        self._ref = ref
        self._with_schema = with_schema
        self._offset = offset
        self._end = None if length is None else offset + length
        self._priority = priority
        self._is_over = False
        self._piled_bytes = 0
        self.came: deque[Held | events.Hole] = deque()
        self.error: StoreError | None = None

    @property
    def is_full(self) -> bool:
        return self._piled_bytes > PILED_BYTES

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes. What came before an error is right."""
        return self._is_over

    @property
    def is_wanted(self) -> bool:
        return not self._is_over

    def give_up(self) -> None:
        self._is_over = True

    def ask(self, machine: ClientMachine) -> int:
        length = None if self._end is None else self._end - self._offset
        return machine.read_file(
            self._ref,
            self._offset,
            length,
            with_schema=self._with_schema,
            priority=self._priority,
        )

    def taken(self) -> "list[Held | events.Hole]":
        """What has come, up to some bytes; the caller releases it."""
        taken: list[Held | events.Hole] = []
        size = 0
        while self.came and size < TAKEN_AT_ONCE_BYTES:
            taken.append(came := self.came.popleft())
            size += came.blob.size if isinstance(came, Held) else 0
        self._piled_bytes -= size
        return taken

    def take(self, event: events.Event, hold: Hold) -> None:
        if isinstance(event, events.Blob):
            self.came.append(hold(event))
            self._piled_bytes += event.size
            if event.place is not None:
                self._offset = event.place.offset + event.place.length
        elif isinstance(event, events.Hole):
            self.came.append(event)
            self._offset = event.offset + event.length
        elif isinstance(event, events.Done):
            self._is_over = True
        elif isinstance(event, events.Failed):
            self.fail(error_of(event.code, "read", self._ref, event.text))

    def fail(self, error: StoreError) -> None:
        self.error = error
        self._is_over = True


def chunk_of(came: Held | events.Hole) -> Chunk:
    """What has come, verified. Raises Corrupt."""
    if isinstance(came, events.Hole):
        return Chunk(came.offset, came.length, None, None)
    blob, place = came.blob, came.blob.place
    assert place is not None
    ref, data = Ref(blob.ref), unpacked(blob)
    if not ref.matches(data):
        raise Corrupt("fetch", ref, "the bytes received do not match it")
    if place.start or place.length != len(data):
        data = data[place.start : place.start + place.length]
    return Chunk(place.offset, place.length, ref, data)


def arrival_of(came: Held) -> Arrival:
    """A blob that has come, verified, or why it is not right."""
    slot = Slot(Ref(came.blob.ref))
    slot.found = came
    return Arrival(*slot.result(), came.blob.is_schema)


class Watching(Question):
    """SUBSCRIBE: what happens from a cursor on, until it is given up."""

    def __init__(self, topics: int, cursor: bytes) -> None:
        self._topics = topics
        self._cursor = cursor
        self._is_over = False
        self.came: deque[events.Arrived | events.Changed] = deque()
        self.error: StoreError | None = None

    @property
    def is_full(self) -> bool:
        return len(self.came) >= PILED_EVENTS

    @property
    def is_wanted(self) -> bool:
        return not self._is_over

    def give_up(self) -> None:
        self._is_over = True

    def ask(self, machine: ClientMachine) -> int:
        return machine.subscribe(self._topics, self._cursor)

    def take(self, event: events.Event, hold: Hold) -> None:  # noqa: ARG002
        if isinstance(event, (events.Arrived, events.Changed)):
            self.came.append(event)
            self._cursor = event.cursor
        elif isinstance(event, events.Failed):
            self.fail(error_of(event.code, "subscribe", "stream", event.text))
        # Done: the server ends; it is asked again on the next connection.

    def fail(self, error: StoreError) -> None:
        self.error = error
        self._is_over = True
