from collections.abc import Iterable
from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import Unavailable
from peatkeep.index.index import IndexRefused
from peatkeep.schema.text import encode
from peatkeep.server import syncing
from peatkeep.server.syncing import Sync
from peatkeep.server.watched import Watched
from tests.waiting import wait_until

from .running import RunningServer, running_server


def indexed(server: RunningServer, ref: Ref) -> bool:
    fields = f"camliversion=1&blob1={ref}"
    return bool(server.form("/index/camli/stat", fields).json["stat"])


def has(storage: Memory, ref: Ref) -> bool:
    return bool(list(storage.stat([ref])))


@pytest.mark.parametrize("how", ["POST", "PUT"])
def test_what_comes_in_by_the_plain_prefix_reaches_the_index(
    server: RunningServer, how: str
) -> None:
    data = encode({"camliType": "keep", "target": Ref.of(how.encode())})
    if how == "POST":
        server.upload("/bs/", data)
    else:
        server.ask("PUT", f"/bs/camli/{Ref.of(data)}", data)
    wait_until(lambda: indexed(server, Ref.of(data)))


def test_chunks_reach_the_index_too(server: RunningServer) -> None:
    server.upload("/bs-and-maybe-also-index/", b"a chunk of data")
    wait_until(lambda: indexed(server, Ref.of(b"a chunk of data")))


def test_what_was_stored_while_the_server_was_away_is_indexed_at_the_start(tmp_path: Path) -> None:
    from peatkeep.blobserver.localdisk import LocalDisk

    with running_server(tmp_path):
        pass
    with LocalDisk(tmp_path / "blobs") as store:
        store.receive(Ref.of(b"meanwhile"), b"meanwhile")
    with running_server(tmp_path) as server:
        wait_until(lambda: indexed(server, Ref.of(b"meanwhile")))


def test_a_bad_claim_is_tried_once_and_named(server: RunningServer) -> None:
    helper = server.service.sighelper
    assert helper is not None
    members = {"camliType": "claim", "claimType": "share", "claimDate": "2024-01-02T03:04:05Z"}
    bad = encode({**members, "camliSigner": helper.signer.ref})[:-1] + b',"camliSig":"x="}\n'
    server.upload("/bs/", bad)
    sync = server.service.syncs["/sync/"]
    wait_until(lambda: Ref.of(bad) in sync.refused)
    wait_until(lambda: sync.waiting == 0)
    assert sync.failure == ""


def test_a_target_that_fails_gets_everything_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "RETRY_WAIT_S", 0.05)

    class Flaky(Memory):
        failures = 2

        def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
            if self.failures:
                self.failures -= 1
                raise Unavailable("receive", "blobs", "not now")
            return super().receive_many(blobs)

    source, target = Watched(Memory()), Flaky()
    sync = Sync(source, target)
    sync.start()
    try:
        source.receive(Ref.of(b"x"), b"x")
        wait_until(lambda: has(target, Ref.of(b"x")))
        wait_until(lambda: sync.failure == "")
    finally:
        sync.stop()


def test_more_arrivals_than_the_queue_holds_are_found_by_comparing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syncing, "QUEUE_LIMIT", 3)
    source, target = Watched(Memory()), Memory()
    sync = Sync(source, target)
    blobs = [str(number).encode() for number in range(50)]
    sync.start()
    try:
        source.receive_many([(Ref.of(data), data) for data in blobs])
        wait_until(lambda: len(list(target.enumerate())) == len(blobs))
    finally:
        sync.stop()


def test_what_just_arrived_is_not_read_again() -> None:
    class Unread(Memory):
        def fetch(self, ref: Ref) -> bytes:
            raise AssertionError(f"{ref} was read")

    source, target = Watched(Unread()), Memory()
    sync = Sync(source, target)
    sync.start()
    try:
        wait_until(lambda: not sync._must_compare)
        source.receive_many([(Ref.of(data), data) for data in (b"", b"x")])
        wait_until(lambda: has(target, Ref.of(b"x")) and has(target, Ref.of(b"")))
        wait_until(lambda: sync.waiting == 0 and sync._held_bytes == 0)
    finally:
        sync.stop()


def test_more_bytes_than_may_be_held_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncing, "HELD_BYTES", 10)
    source, target = Watched(Memory()), Memory()
    sync = Sync(source, target)
    sync.start()
    try:
        blobs = [bytes([number]) * 7 for number in range(20)]
        source.receive_many([(Ref.of(data), data) for data in blobs])
        assert sync._held_bytes <= 10
        wait_until(lambda: len(list(target.enumerate())) == len(blobs))
        wait_until(lambda: sync._held_bytes == 0)
    finally:
        sync.stop()


def test_what_is_written_and_synced_in_two_steps_arrives_too() -> None:
    source, target = Watched(Memory()), Memory()
    sync = Sync(source, target)
    sync.start()
    try:
        wait_until(lambda: not sync._must_compare)
        source.write_many([(Ref.of(b"two"), b"two")])
        source.sync()
        wait_until(lambda: has(target, Ref.of(b"two")))
    finally:
        sync.stop()


def test_refused_blobs_do_not_hold_up_the_others() -> None:
    class Refusing(Memory):
        def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
            stored = super().receive_many([(r, d) for r, d in blobs if d != b"bad"])
            raise IndexRefused({Ref.of(b"bad"): "bad"}) if stored else AssertionError

    source, target = Watched(Memory()), Refusing()
    source.receive_many([(Ref.of(data), data) for data in (b"good", b"bad")])
    sync = Sync(source, target)
    sync.start()
    try:
        wait_until(lambda: has(target, Ref.of(b"good")) and sync.copied_blobs == 1)
    finally:
        sync.stop()
    assert sync.refused == {Ref.of(b"bad"): "bad"}


def test_chunks_are_told_with_their_bytes_when_they_are_durable() -> None:
    store = Watched(Memory())
    told: list[tuple[Ref, bytes | None]] = []
    store.watch(told.extend)
    store.write_many([(Ref.of(b"one"), b"one")])
    assert told == []
    store.receive_many([(Ref.of(b"two"), b"two")])
    assert told == [(Ref.of(b"one"), b"one"), (Ref.of(b"two"), b"two")]


def test_what_a_failed_sync_left_is_told_after_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Watched(Memory())
    told: list[Ref] = []
    store.watch(lambda blobs: told.extend(ref for ref, _ in blobs))
    store.write_many([(Ref.of(b"one"), b"one")])

    def fail() -> None:
        raise Unavailable("sync", "disk")

    with monkeypatch.context() as patch:
        patch.setattr(store.inner, "sync", fail)
        with pytest.raises(Unavailable):
            store.sync()
    assert told == []
    store.sync()
    assert told == [Ref.of(b"one")]
