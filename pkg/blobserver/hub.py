"""Who is told when blobs have arrived."""

import threading
from collections.abc import Callable, Collection, Sequence

from ..blob import Ref

ReceiveHook = Callable[[Sequence[tuple[Ref, bytes]]], None]
"""Called with a batch of blobs that are durable. What it raises goes to the uploader."""

Listener = Callable[[Ref], None]
"""Called with each ref after all hooks succeeded. Must be quick and must not raise."""


class Hub:
    """Hooks run before the answer, in order of registration; listeners are signalled after.

    Safe to use from many threads.
    """

    def __init__(self) -> None:
        self._arrived = threading.Condition()
        self._count = 0
        self._hooks: list[ReceiveHook] = []
        self._listeners: dict[int, Listener] = {}
        self._next_listener = 0

    def add_hook(self, hook: ReceiveHook) -> None:
        self._hooks.append(hook)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Register a listener. Returns a function that unregisters it."""
        with self._arrived:
            key = self._next_listener
            self._next_listener += 1
            self._listeners[key] = listener
        return lambda: self._forget(key)

    def _forget(self, key: int) -> None:
        with self._arrived:
            self._listeners.pop(key, None)

    def notify(self, blobs: Sequence[tuple[Ref, bytes]]) -> None:
        """Tell all: the hooks first, whose errors are raised, then the listeners."""
        for hook in self._hooks:
            hook(blobs)
        with self._arrived:
            self._count += len(blobs)
            listeners: Collection[Listener] = list(self._listeners.values())
            self._arrived.notify_all()
        for listener in listeners:
            for ref, _ in blobs:
                listener(ref)

    @property
    def arrivals(self) -> int:
        """How many blobs have arrived so far: take it before looking, then `wait` on it."""
        return self._count

    def wait(self, seen: int, wait_s: float) -> bool:
        """Wait until more than `seen` blobs have arrived. False when the time ran out."""
        with self._arrived:
            return self._arrived.wait_for(lambda: self._count > seen, wait_s)
