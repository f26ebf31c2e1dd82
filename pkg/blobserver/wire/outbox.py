"""What waits to be sent: small frames first, then blobs in pieces, by class (STREAM.md)."""

from collections import deque
from collections.abc import Callable
from typing import Final

from .frames import ABORT, CLASSES, DATA, END, HEADER, PUT, Place, blob_head, frame, put_head

PIECE_BYTES: Final = 128 * 1024
"""A blob is cut into these, so that what is more urgent waits for one piece at most."""

FULL_BYTES: Final = 128 * 1024
"""A message that has grown to this, or lacks less than a piece of its budget, takes no more."""

LEAST_BYTES: Final = 1024
"""A budget below this is taken as this: else heads would outweigh pieces."""

HEAD_ROOM: Final = 640
"""More than the header and head of any PUT or BLOB with a ref of the known hashes."""


class Outgoing:
    """A blob on its way. `sent`: bytes of `data` that have left; begun: its head has left."""

    __slots__ = (
        "begun",
        "data",
        "flags",
        "item",
        "kind",
        "place",
        "ref",
        "request",
        "sent",
        "size",
    )

    def __init__(
        self,
        kind: int,
        flags: int,
        request: int,
        ref: str,
        data: bytes,
        size: int,
        item: int = 0,
        place: Place | None = None,
    ) -> None:
        self.kind = kind
        self.flags = flags
        self.request = request
        self.ref = ref
        self.data = data
        self.size = size
        self.item = item
        self.place = place
        self.sent = 0
        self.begun = False

    def frame(self, piece_bytes: int) -> tuple[bytes, bytes | memoryview]:
        """Header (with head) and payload of the next piece."""
        sent, data = self.sent, self.data
        self.sent = after = sent + piece_bytes
        end = END if after == len(data) else 0
        payload = data if piece_bytes == len(data) else memoryview(data)[sent:after]
        if self.begun:
            return HEADER.pack(DATA, end, self.request, piece_bytes), payload
        self.begun = True
        flags = self.flags | end
        if self.kind == PUT:
            return put_head(self.request, flags, self.ref, self.size, piece_bytes), payload
        head = blob_head(
            self.request, flags, self.item, self.size, piece_bytes, self.ref, self.place
        )
        return head, payload


class Small:
    """A whole frame that keeps its place among the blobs of its class."""

    __slots__ = ("frame", "item", "request")

    def __init__(self, request: int, whole: bytes, item: int | None = None) -> None:
        self.request = request
        self.frame = whole
        self.item = item


Job = Outgoing | Small


class Outbox:
    """Queues, and the messages made of them.

    allowance: how many bytes of this blob may be sent now; called before each piece with the
    class and the blob. sent: told of each piece that leaves.
    """

    def __init__(
        self,
        allowance: Callable[[int, Outgoing], int],
        sent: Callable[[int, Outgoing, int], None],
    ) -> None:
        self._allowance = allowance
        self._sent = sent
        self._urgent: deque[bytes] = deque()
        self._queues: tuple[deque[Job], ...] = tuple(deque() for _ in CLASSES)
        self.urgent_bytes = 0
        self.waiting_bytes = [0 for _ in CLASSES]

    def __bool__(self) -> bool:
        return bool(self._urgent) or any(self._queues)

    def add_urgent(self, whole: bytes) -> None:
        """A frame that goes before all blobs."""
        self._urgent.append(whole)
        self.urgent_bytes += len(whole)

    def add(self, priority: int, job: Job) -> None:
        self._queues[priority].append(job)
        self.waiting_bytes[priority] += _weight(job)

    def pieces(self, budget_bytes: int, begin: list[bytes]) -> list[bytes | memoryview]:
        """The next message, of `budget_bytes` about; empty when nothing may be sent now.

        begin: frames that go first.
        """
        budget_bytes = max(budget_bytes, LEAST_BYTES)
        parts: list[bytes | memoryview] = [*begin]
        size = sum(map(len, begin))
        urgent = self._urgent
        while urgent and (not parts or size + len(urgent[0]) <= budget_bytes):
            size += len(urgent[0])
            self.urgent_bytes -= len(urgent[0])
            parts.append(urgent.popleft())
        if not urgent:
            self._fill(parts, size, budget_bytes)
        return parts

    def _fill(self, parts: list[bytes | memoryview], size: int, budget_bytes: int) -> None:
        """Append pieces of blobs, the most urgent class first."""
        full_bytes = max(FULL_BYTES, budget_bytes - PIECE_BYTES)
        for priority, queue in enumerate(self._queues):
            while queue and size < full_bytes:
                job = queue[0]
                if isinstance(job, Small):
                    if parts and size + len(job.frame) > budget_bytes:
                        return
                    parts.append(job.frame)
                    size += len(job.frame)
                    self.waiting_bytes[priority] -= len(job.frame)
                    queue.popleft()
                    continue
                left = len(job.data) - job.sent
                room = budget_bytes - size - HEAD_ROOM
                if parts and room < left and (room <= 0 or left + HEAD_ROOM <= budget_bytes):
                    return  # it fits into the next message whole
                allowed = self._allowance(priority, job)
                piece_bytes = min(left, max(room, 1), PIECE_BYTES, allowed)
                if allowed < 0 or piece_bytes <= 0 < left:
                    break  # this class waits for credit; a less urgent one may have some
                head, payload = job.frame(piece_bytes)
                parts.append(head)
                parts.append(payload)
                size += len(head) + piece_bytes
                self.waiting_bytes[priority] -= piece_bytes
                if piece_bytes == left:
                    self.waiting_bytes[priority] -= HEAD_ROOM
                    queue.popleft()
                self._sent(priority, job, piece_bytes)

    def drop(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Take out the jobs of which `unwanted` is true; returns them in order.

        A blob that has begun is ended by an urgent frame that says that it was given up.
        """
        dropped: list[Job] = []
        for priority, queue in enumerate(self._queues):
            kept: deque[Job] = deque()
            for job in queue:
                if not unwanted(job):
                    kept.append(job)
                    continue
                dropped.append(job)
                self.waiting_bytes[priority] -= _weight(job)
                if isinstance(job, Outgoing) and job.begun:
                    self.add_urgent(frame(DATA, END | ABORT, job.request))
            queue.clear()
            queue.extend(kept)
        return dropped


def _weight(job: Job) -> int:
    """Bytes that a job still has to send, about."""
    if isinstance(job, Small):
        return len(job.frame)
    return len(job.data) - job.sent + HEAD_ROOM
