"""Who is told when blobs have arrived, and when."""

import threading
from collections.abc import Sequence

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.hub import Hub
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.receive import receive, receive_many
from peatkeep.errors import Corrupt, Unavailable

REF = Ref.of(b"x")
BATCH = [(REF, b"x"), (Ref.of(b"y"), b"y")]


def test_hooks_see_the_batch_when_it_is_stored() -> None:
    store, hub = Memory(), Hub()
    seen: list[Sequence[tuple[Ref, bytes]]] = []

    def hook(blobs: Sequence[tuple[Ref, bytes]]) -> None:
        assert {ref: store.fetch(ref) for ref, _ in blobs} == dict(blobs)
        seen.append(blobs)

    hub.add_hook(hook)
    receive_many(store, iter(BATCH), hub)
    assert seen == [BATCH]


def test_hooks_run_in_order_and_before_listeners() -> None:
    hub = Hub()
    told: list[str] = []
    hub.listen(lambda ref: told.append(f"listener {ref == REF}"))
    hub.add_hook(lambda _: told.append("first"))
    hub.add_hook(lambda _: told.append("second"))
    hub.notify([(REF, b"x")])
    assert told == ["first", "second", "listener True"]


def test_a_hook_that_fails_tells_the_uploader_and_nobody_else() -> None:
    store, hub = Memory(), Hub()
    told: list[Ref] = []
    hub.listen(told.append)

    def fail(_: object) -> None:
        raise Unavailable("index", "blobs")

    hub.add_hook(fail)
    with pytest.raises(Unavailable):
        receive(store, REF, b"x", hub)
    assert store.fetch(REF) == b"x"
    assert told == []
    assert hub.arrivals == 0


def test_nobody_is_told_of_a_refused_blob() -> None:
    hub = Hub()
    hub.add_hook(lambda _: pytest.fail("told"))
    with pytest.raises(Corrupt):
        receive(Memory(), REF, b"other", hub)


def test_a_listener_can_leave() -> None:
    hub = Hub()
    told: list[Ref] = []
    stop = hub.listen(told.append)
    hub.notify(BATCH)
    stop()
    stop()
    hub.notify(BATCH)
    assert told == [ref for ref, _ in BATCH]


def test_waiting_ends_when_a_blob_arrives() -> None:
    hub = Hub()
    seen = hub.arrivals
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(hub.wait(seen, 60)))
    waiter.start()
    hub.notify(BATCH)
    waiter.join(60)
    assert answers == [True]
    assert hub.wait(seen, 0)
    assert not hub.wait(hub.arrivals, 0)
