"""What pkg/blobserver/encrypt/SECURITY.md says: what holds, and what does not."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyrage
import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.encrypt.lines import HEADER
from peatkeep.blobserver.encrypt.sealing import Sealer
from peatkeep.blobserver.forward import Forward
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError, Corrupt, NotFound, Unsupported
from tests.blobserver.encrypt.stores import (
    SEALER,
    TEST_ONLY_IDENTITY,
    TEST_ONLY_OTHER_IDENTITY,
    Below,
)

BLOBS = sample(12)
FIRST = next(iter(BLOBS))


def filled(blobs: dict[Ref, bytes] = BLOBS) -> Below:
    below = Below()
    with below.open() as store:
        store.receive_many(blobs.items())
    return below


def copied(store: Storage) -> Storage:
    copy = Memory()
    copy.receive_many((ref, store.fetch(ref)) for ref, _ in store.enumerate())
    return copy


def sealed_of(below: Below, ref: Ref) -> Ref:
    row = below.rows.get(ref.encode())
    assert row is not None
    return Ref(row.partition(b"/")[2].decode())


# -- what the provider can't read -----------------------------------------------------------------


def test_neither_content_nor_names_nor_key_lie_below(tmp_path: Path) -> None:
    for name in ("blobs", "metas"):
        (tmp_path / name).mkdir()
    below = Below()
    below.blobs, below.metas = LocalDisk(tmp_path / "blobs"), LocalDisk(tmp_path / "metas")
    secret = b"a secret of this very test"
    with below.open() as store:
        store.receive(Ref.of(secret), secret)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in files:
        for told in (secret, Ref.of(secret)[-30:].encode(), TEST_ONLY_IDENTITY[20:].encode()):
            assert told not in path.read_bytes()
            assert told.decode() not in str(path)
    assert any(path.suffix == ".dat" for path in files)


def test_the_same_blob_looks_different_in_another_store() -> None:
    one, other = filled(), filled()
    seen = [{ref for ref, _ in below.blobs.enumerate()} for below in (one, other)]
    assert not seen[0] & seen[1]


# -- what the provider can't forge ----------------------------------------------------------------


class Lying(Forward):
    """Answers with other bytes, and verifies nothing."""

    def __init__(self, inner: Storage, lies: dict[Ref, bytes]) -> None:
        super().__init__(inner)
        self.lies = lies

    def fetch(self, ref: Ref) -> bytes:
        return self.lies[ref] if ref in self.lies else super().fetch(ref)

    def fetch_many(self, refs):  # type: ignore[no-untyped-def]
        for ref in refs:
            yield ref, self.fetch(ref)


@pytest.mark.parametrize("lie", ["swapped", "flipped", "cut", "empty", "plain", "sealed anew"])
def test_other_bytes_are_never_served(lie: str) -> None:
    below = filled()
    refs = list(BLOBS)
    good = below.blobs.fetch(sealed_of(below, refs[0]))
    lies = {
        "swapped": below.blobs.fetch(sealed_of(below, refs[1])),
        "flipped": good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
        "cut": good[:-1],
        "empty": b"",
        "plain": BLOBS[refs[0]],
        "sealed anew": SEALER.seal(refs[0], b"other content"),
    }
    below.blobs = Lying(below.blobs, {sealed_of(below, refs[0]): lies[lie]})
    with below.open() as store:
        with pytest.raises(Corrupt):
            store.fetch(refs[0])
        with pytest.raises(Corrupt):
            store.fetch_range(refs[0], 0, 1)
        got = dict(store.fetch_many(refs))
        assert isinstance(got[refs[0]], Corrupt)
        assert {ref: got[ref] for ref in refs[1:]} == {ref: BLOBS[ref] for ref in refs[1:]}
        assert {found.ref for found in store.check()} == {refs[0]}


def forged_meta(line: bytes) -> bytes:
    """By somebody who has the public key only."""
    recipient = pyrage.x25519.Recipient.from_str(SEALER.recipient.text)
    sealed: bytes = pyrage.encrypt(HEADER + line + b"\n", [recipient])
    return b"\x02" + sealed


def test_a_forged_meta_blob_can_add_names_but_never_other_bytes() -> None:
    # age does not sign: who has the public key and may write below can do that.
    below = filled()
    refs = list(BLOBS)
    invented = Ref.of(b"invented")
    for line in (
        f"{refs[0]}/5/{sealed_of(below, refs[1])}",
        f"{invented}/8/{sealed_of(below, refs[1])}",
        f"{refs[2]}/8/{Ref.of(b'nothing')}",
    ):
        sealed = forged_meta(line.encode())
        below.metas.receive(Ref.of(sealed), sealed)
    for forget in (lambda: None, below.forget_index, below.forget_all):
        forget()
        with below.open() as store:
            assert dict(store.fetch_many(BLOBS)) == BLOBS
            with pytest.raises(Corrupt):
                store.fetch(invented)
            assert invented in {found.ref for found in store.check()}


# -- what the provider can hide, and when that is noticed -----------------------------------------


def drop_meta(below: Below) -> None:
    below.metas.remove([ref for ref, _ in below.metas.enumerate()])


def drop_blob(below: Below) -> None:
    below.blobs.remove([sealed_of(below, FIRST)])


def test_a_withheld_meta_blob_is_reported_and_hides_nothing() -> None:
    below = filled()
    drop_meta(below)
    with below.open() as store:
        assert any("1 meta blobs are gone" in remark for remark in store.remarks)
        assert dict(store.fetch_many(BLOBS)) == BLOBS
    below.forget_all()  # it was named again
    with below.open() as store:
        assert dict(store.fetch_many(BLOBS)) == BLOBS


def test_a_withheld_meta_blob_is_reported_while_the_store_is_open() -> None:
    below = filled()
    with below.open() as store:
        drop_meta(below)
        assert "gone" in next(store.check()).reason
        assert dict(store.fetch_many(BLOBS)) == BLOBS


def test_a_withheld_blob_is_not_claimed_and_is_taken_again() -> None:
    below = filled()
    drop_blob(below)
    with below.open() as store:
        with pytest.raises(NotFound):
            store.fetch(FIRST)
        assert list(store.stat([FIRST])) == []
        assert FIRST not in {ref for ref, _ in store.enumerate()}
        assert {found.ref for found in store.check()} == {FIRST}
        store.receive(FIRST, BLOBS[FIRST])
        assert store.fetch(FIRST) == BLOBS[FIRST]
        assert list(store.stat([FIRST])) == [SizedRef(FIRST, len(BLOBS[FIRST]))]
        assert [ref for ref, _ in store.enumerate()] == list(BLOBS)


def test_a_blob_withheld_with_its_name_is_reported_at_every_opening() -> None:
    below = filled()
    drop_meta(below)
    drop_blob(below)
    for _ in range(3):
        with below.open() as store:
            assert any("1 blobs are gone" in remark for remark in store.remarks)
            assert {found.ref for found in store.check()} == {FIRST}
    with below.open() as store:
        store.recover(forget_missing=True)
    with below.open() as store:
        assert store.remarks == []
        assert list(store.check()) == []
        assert [ref for ref, _ in store.enumerate()] == list(BLOBS)[1:]


def test_an_old_state_brought_back_is_reported() -> None:
    below = filled()
    blobs, metas = copied(below.blobs), copied(below.metas)
    with below.open() as store:
        store.receive(Ref.of(b"newer"), b"newer")
        store.compact()
    below.blobs, below.metas = blobs, metas
    with below.open() as store:
        assert any("an old state was brought back" in remark for remark in store.remarks)
        assert dict(store.fetch_many(BLOBS)) == BLOBS
        assert {found.ref for found in store.check()} == {Ref.of(b"newer")}


def test_what_was_removed_stays_away_when_an_old_state_is_brought_back() -> None:
    below = filled()
    blobs, metas = copied(below.blobs), copied(below.metas)
    with below.open() as store:
        store.remove([FIRST])
    below.blobs, below.metas = blobs, metas
    for forget in (lambda: None, below.forget_index):
        forget()
        with below.open() as store:
            assert any("stay removed" in remark for remark in store.remarks) or forget
            assert [ref for ref, _ in store.enumerate()] == list(BLOBS)[1:]
            with pytest.raises(NotFound):
                store.fetch(FIRST)


def test_without_its_memory_a_machine_notices_no_rollback() -> None:
    below = filled()
    blobs, metas = copied(below.blobs), copied(below.metas)
    with below.open() as store:
        store.receive(Ref.of(b"newer"), b"newer")
        store.remove([FIRST])
    below.blobs, below.metas = blobs, metas
    below.forget_all()
    with below.open() as store:
        assert [ref for ref, _ in store.enumerate()] == list(BLOBS)
        assert store.remarks == []


def test_a_meta_blob_that_rots_later_is_written_anew_by_a_compaction() -> None:
    below = Below()
    with below.open() as store:
        for ref, data in BLOBS.items():
            store.receive(ref, data)
    meta = next(iter(below.metas.enumerate())).ref
    below.metas._blobs[meta] = b"rotten"  # type: ignore[attr-defined]
    with below.open() as store:
        assert dict(store.fetch_many(BLOBS)) == BLOBS
        assert {found.ref for found in store.check()} == {meta}
        store.compact()
    below.forget_all()
    with below.open() as store:
        assert dict(store.fetch_many(BLOBS)) == BLOBS
        assert len(store.remarks) == 1
    assert meta in {ref for ref, _ in below.metas.enumerate()}


def test_of_two_copies_the_good_one_is_served() -> None:
    here, there = Below(), Below()
    there.blobs, there.metas = here.blobs, here.metas
    with here.open() as one, there.open() as other:
        one.receive(FIRST, BLOBS[FIRST])
        other.receive(FIRST, BLOBS[FIRST])
    for victim in (sealed_of(here, FIRST), sealed_of(there, FIRST)):
        for effect in (b"rotten", None):
            copy = Below()
            copy.blobs, copy.metas = copied(here.blobs), copied(here.metas)
            if effect is None:
                copy.blobs.remove([victim])
            else:
                copy.blobs._blobs[victim] = effect  # type: ignore[attr-defined]
            with copy.open() as store:
                assert list(store.stat([FIRST])) == [SizedRef(FIRST, len(BLOBS[FIRST]))]
                assert store.fetch(FIRST) == BLOBS[FIRST]
                assert all(found.is_readable for found in store.check())


# -- keys and versions ----------------------------------------------------------------------------


@pytest.mark.parametrize("forget", ["nothing", "index", "all", "all, metas gone"])
def test_another_key_is_refused_and_nothing_is_touched(forget: str) -> None:
    below = filled()
    if forget == "index":
        below.forget_index()
    if forget.startswith("all"):
        below.forget_all()
    if forget.endswith("gone"):
        drop_meta(below)
    before = below.state()
    with pytest.raises(ConfigError) as caught:
        below.open(Sealer(TEST_ONLY_OTHER_IDENTITY))
    assert "keyFile" in str(caught.value)
    assert below.state() == before
    with below.open() as store:
        assert dict(store.fetch_many(BLOBS)) == BLOBS


@pytest.mark.parametrize("version", [b"\x01", b"\x03", b""])
def test_another_version_is_refused_and_nothing_is_touched(version: bytes) -> None:
    below = filled()
    foreign = version + SEALER.seal(FIRST, HEADER)[1:]
    below.metas.receive(Ref.of(foreign), foreign)
    for _ in range(2):
        before = below.state()
        with pytest.raises(Unsupported) as caught:
            below.open()
        assert Ref.of(foreign) in str(caught.value)
        assert below.state() == before
        below.forget_all()


def test_a_whole_meta_blob_for_another_key_is_named_and_stops_nothing() -> None:
    below = filled()
    foreign = Sealer(TEST_ONLY_OTHER_IDENTITY).seal(FIRST, HEADER)
    below.metas.receive(Ref.of(foreign), foreign)
    for _ in range(2):
        with below.open() as store:
            assert any(Ref.of(foreign) in remark for remark in store.remarks)
            assert dict(store.fetch_many(BLOBS)) == BLOBS
        below.forget_all()
    assert Ref.of(foreign) in {ref for ref, _ in below.metas.enumerate()}


# -- what does not hold ---------------------------------------------------------------------------


def test_the_number_of_blobs_and_their_sizes_are_seen_below() -> None:
    contents = [os.urandom(size) for size in (0, 1000, 65536, 65537, 1_000_000)]
    below = filled({Ref.of(data): data for data in contents})
    sealed = sorted(size for _, size in below.blobs.enumerate())
    for data, size in zip(contents, sealed, strict=True):
        overhead = size - len(data) - 16 * max(1, -(-len(data) // 65536))
        assert overhead == 185


def test_what_is_read_is_seen_below() -> None:
    asked: list[Ref] = []

    class Watched(Forward):
        def fetch(self, ref: Ref) -> bytes:
            asked.append(ref)
            return super().fetch(ref)

    below = filled()
    below.blobs = Watched(below.blobs)
    with below.open() as store:
        store.fetch(FIRST)
    assert asked == [sealed_of(below, FIRST)]


def test_index_and_memory_hold_names_in_clear() -> None:
    below = filled()
    assert {key.decode() for key, _ in below.rows.find()} == set(BLOBS)
    said = [key for key, _ in below.memory.find() if FIRST.encode() in key]
    assert said


# -- rot ------------------------------------------------------------------------------------------

DAMAGES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "flip": lambda data, _: bytes([*data[:-9], data[-9] ^ 4, *data[-8:]]),
    "flip the first byte": lambda data, _: bytes([data[0] ^ 4]) + data[1:],
    "zero": lambda data, _: bytes(len(data)),
    "truncate": lambda data, _: data[: len(data) // 2],
    "empty": lambda data, _: b"",
    "swap": lambda _, other: other,
}


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("sha224-*.dat"))


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[tuple[Below, Path]]:
    for name in ("blobs", "metas"):
        (tmp_path / name).mkdir()
    below = Below()
    below.blobs, below.metas = LocalDisk(tmp_path / "blobs"), LocalDisk(tmp_path / "metas")
    with below.open() as store:
        for ref, data in BLOBS.items():
            store.receive(ref, data)
    yield below, tmp_path
    for one in below.stores:
        one.close()


@pytest.mark.parametrize("damage", [*DAMAGES, "roll back"])
@pytest.mark.parametrize("forget", ["nothing", "index", "all"])
def test_whatever_rots_is_refused_or_served_right_and_found(
    on_disk: tuple[Below, Path], damage: str, forget: str
) -> None:
    below, folder = on_disk
    paths = files_of(folder)
    rows, memory = list(below.rows.find()), list(below.memory.find())
    before = {path: path.read_bytes() for path in paths}
    for path in paths:
        if damage == "roll back":
            path.unlink()  # to before it was written
        else:
            path.write_bytes(DAMAGES[damage](before[path], before[paths[paths.index(path) - 1]]))
        # Each damage meets what was there before any.
        below.forget_all()
        for store, kept, is_kept in (
            (below.rows, rows, forget == "nothing"),
            (below.memory, memory, forget != "all"),
        ):
            for key, value in kept if is_kept else ():
                store.set(key, value)
        with below.open() as store:
            got = dict(store.fetch_many(BLOBS))
            served = {ref for ref, data in got.items() if data == BLOBS[ref]}
            assert {type(got[ref]) for ref in BLOBS if ref not in served} <= {Corrupt, NotFound}
            found = {one.ref for one in store.check()}
            if "metas" in path.parts:
                assert served == set(BLOBS)
                assert found or damage == "roll back"
                assert store.remarks or found or forget == "all"
            else:
                assert len(served) == len(BLOBS) - 1
                assert found == BLOBS.keys() - served
        for extra in set(files_of(folder)) - set(paths):
            extra.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before[path])
