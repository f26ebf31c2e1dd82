"""Both ends through random schedules: nothing is lost, doubled or out of bounds."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from peatkeep.blobserver.wire import events
from peatkeep.blobserver.wire.client import LARGEST_WINDOW
from peatkeep.blobserver.wire.server import PUT_OVERHEAD
from tests.blobserver.wire.simulation import ABSENT, BLOBS, MIB, REFS, Line, blob_bytes

AHEAD = MIB
LARGEST = max(len(data) for data in BLOBS.values())


class World:
    """A client, a server with a store, and what was promised between them."""

    def __init__(self, choice: random.Random) -> None:
        self.choice = choice
        self.line = Line()
        self.durable: set[str] = set(REFS[:4])
        self.unsynced: list[events.Put] = []
        self.expected: dict[int, str] = {}  # uploads without an answer
        self.acked: set[int] = set()
        self.uploaded: list[str] = []
        self.fetches: dict[int, list[str]] = {}
        self.answers: dict[tuple[int, int], object] = {}
        self.stopped: set[int] = set()
        self.over: set[int] = set()
        self.producing: list[tuple[events.Fetch, int]] = []
        self.held: list[events.Blob] = []
        self.arrived = [0, 0, 0]

    # -- what the client does --------------------------------------------------------------------

    def put(self) -> None:
        if self.line.client.room > 0 and not self.line.client.peer_leaves:
            ref = self.choice.choice(REFS)
            request = self.line.client.put(
                ref,
                BLOBS[ref],
                no_rush=self.choice.random() < 0.5,
                priority=self.choice.randrange(3),
            )
            self.expected[request] = ref

    def withdraw(self) -> None:
        if self.expected:
            request = self.choice.choice(sorted(self.expected))
            if self.line.client.withdraw(request):
                del self.expected[request]

    def fetch(self) -> None:
        if self.line.client.can_ask:
            refs = self.choice.choices([*REFS, ABSENT], k=self.choice.randint(1, 5))
            request = self.line.client.fetch(refs, priority=self.choice.randrange(3))
            self.fetches[request] = refs

    def stop(self) -> None:
        running = sorted(self.fetches.keys() - self.over)
        if not running:
            return
        request = self.choice.choice(running)
        kind = self.choice.random()
        if kind < 0.5:
            self.line.client.stop(request, [self.choice.choice(self.fetches[request])])
        elif kind < 0.9:
            self.line.client.stop(request)
            self.stopped.add(request)
        else:
            self.line.client.stop_all()
            self.stopped |= self.fetches.keys() - self.over

    def release(self) -> None:
        if self.held:
            self.line.client.release(self.held.pop(self.choice.randrange(len(self.held))))

    def cut(self) -> None:
        """The connection breaks: what is on the line is lost, the server keeps what it wrote."""
        pending = self.line.client.pending()
        sent = [one for one in pending if one.was_sent]
        cost = sum(one.size + PUT_OVERHEAD for one in sent)
        assert cost <= MIB or len(sent) == 1, "more than a window would be sent twice"
        assert {one.request for one in pending} == self.expected.keys()
        self.sync()
        self.line = Line()
        self.expected = {}
        for one in pending:
            if one.ref not in self.durable:
                self.expected[self.line.client.put(one.ref, one.data)] = one.ref
        self.acked.clear()
        self.fetches.clear()
        for kept in (self.answers, self.stopped, self.over, self.producing, self.held):
            kept.clear()
        self.arrived = [0, 0, 0]

    # -- what the server does --------------------------------------------------------------------

    def sync(self) -> None:
        done = [one.request for one in self.unsynced]
        self.durable |= {one.ref for one in self.unsynced}
        self.unsynced = []
        self.line.server.ack(done)

    def refuse(self) -> None:
        if self.unsynced:
            one = self.unsynced.pop(self.choice.randrange(len(self.unsynced)))
            self.line.server.error(one.request, 507, "no space")

    def produce(self) -> None:
        if not self.producing:
            return
        at = self.choice.randrange(len(self.producing))
        fetch, item = self.producing[at]
        server = self.line.server
        if server.room(fetch.priority) <= 0:
            return
        if item == len(fetch.items):
            server.done(fetch.request)
            self.producing.pop(at)
            return
        ref = fetch.items[item].ref
        if ref in BLOBS:
            server.send_blob(fetch.request, item, BLOBS[ref])
        else:
            server.error(fetch.request, 404, "not here", item)
        self.producing[at] = (fetch, item + 1)

    # -- the line --------------------------------------------------------------------------------

    def send(self) -> None:
        end = self.choice.choice(["client", "server"])
        self.line.send(end, self.choice.choice([1, 5_000, 100_000, 1 << 30]))
        self.check()

    def deliver(self) -> None:
        end = self.choice.choice(["client", "server"])
        for event in self.line.deliver(end):
            self.note(event)
        self.check()

    def note(self, event: events.Event) -> None:
        match event:
            case events.Put():
                assert event.data == BLOBS[event.ref]
                self.unsynced.append(event)
                self.uploaded.append(event.ref)
            case events.Fetch():
                self.producing.append((event, 0))
            case events.Stop() if not event.refs:
                self.producing = [one for one in self.producing if one[0].request != event.request]
            case events.Stored():
                for request in event.requests:
                    assert request not in self.acked
                    self.acked.add(request)
                    assert self.expected.pop(request) in self.durable
            case events.Failed() if event.item is None:
                del self.expected[event.request]
            case events.Failed():
                self.answer(event.request, event.item or 0, event.code)
            case events.Blob():
                assert event.request not in self.stopped
                ref = self.fetches[event.request][event.item]
                assert event.data == BLOBS[ref]
                self.answer(event.request, event.item, ref)
                self.held.append(event)
            case events.Done():
                self.over.add(event.request)
                assert event.stopped is (event.request in self.stopped) or not event.stopped

    def answer(self, request: int, item: int, what: object) -> None:
        assert (request, item) not in self.answers, "an item is answered twice"
        self.answers[request, item] = what

    def check(self) -> None:
        """The bounds."""
        server, client = self.line.server, self.line.client
        assert server.unanswered_put_bytes <= server.hello.window
        partial = sum(one.got for one in server._unfinished.values())
        assert partial <= max(MIB, LARGEST)
        for priority in range(3):
            assert server.room(priority) >= -(LARGEST + 10_000)
            held = sum(len(b.data) for b in self.held if b.priority == priority)
            assert held <= client._window.target_bytes + 2 * MIB + LARGEST
        assert server._outbox.urgent_bytes < MIB

    def finish(self) -> None:
        """Let everything end, and see that it did."""
        for _ in range(10_000):
            moved = False
            for step in (self.sync, self.produce, self.produce, self.release):
                step()
            for end in ("client", "server"):
                while self.line.send(end):
                    self.check()
                    moved = True
                while self.line.to_server or self.line.to_client:
                    moved = True
                    for side in ("client", "server"):
                        for event in self.line.deliver(side):
                            self.note(event)
            if not (moved or self.producing or self.held or self.unsynced):
                break
        assert not self.expected
        assert self.over == self.fetches.keys()
        for request, refs in self.fetches.items():
            if request not in self.stopped:
                assert all((request, item) in self.answers for item in range(len(refs)))


STEPS = (
    *[World.send] * 6,
    *[World.deliver] * 6,
    *[World.produce] * 3,
    *[World.put] * 2,
    *[World.release] * 2,
    World.fetch,
    World.sync,
    World.stop,
    World.withdraw,
    World.refuse,
)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=True), st.integers(0, 400), st.floats(0, 0.02))
def test_every_schedule_ends_with_each_item_answered_once(
    choice: random.Random, steps: int, cuts: float
) -> None:
    world = World(choice)
    for _ in range(steps):
        if choice.random() < cuts:
            world.cut()
        else:
            choice.choice(STEPS)(world)
    world.finish()


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=True))
def test_the_credit_of_each_class_is_never_exceeded(choice: random.Random) -> None:
    world = World(choice)
    sent, steps = 0, [*STEPS, World.fetch]
    for _ in range(300):
        choice.choice(steps)(world)
    sent = sum(blob_bytes(message) for end, message in world.line.wire if end == "server")
    assert sent <= sum(world.line.client._granted_bytes)


def test_a_client_that_does_not_take_blobs_is_sent_the_largest_window_of_them() -> None:
    line = Line()
    line.settle()
    big = max(REFS, key=lambda ref: len(BLOBS[ref]))
    request = line.client.fetch([big] * 20)
    line.settle()
    for item in range(20):
        line.server.send_blob(request, item, BLOBS[big])
        line.settle()
    held = sum(len(blob.data) for blob in line.take(events.Blob))
    assert held <= LARGEST_WINDOW + LARGEST
