"""What is refused, what waits, and what is too large for a row."""

import pickle
import threading
from collections.abc import Iterator

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import Corrupt, NotFound, Unavailable, Unsupported
from peatkeep.index import files
from peatkeep.index.index import IndexRefused
from peatkeep.index.lookups import with_attribute
from tests.index import make
from tests.index.corpus import OWNER_KEY_ID, Blob, World, corpus, signer

FAR_NS = 2**62


def reason(world: World, blob: Blob) -> str:
    refused = world.add([blob])
    assert list(refused) == [blob[0]]
    return refused[blob[0]]


# -- refused ------------------------------------------------------------------------------------


def test_a_bad_signature_is_refused_and_has_no_rows() -> None:
    world = World()
    world.add([make.key()])
    before = world.rows()
    ref, data = make.permanode("p")
    bad = data.replace(b'"key": "p"', b'"key": "q"')
    assert reason(world, make.blob(bad)) == "signature verification failed"
    assert world.rows() == before
    assert dict(world.index.view.refused()) == {Ref.of(bad): "signature verification failed"}
    assert ref not in dict(world.index.view.refused())


def test_an_unsigned_permanode_is_refused_in_the_words_of_perkeep() -> None:
    unsigned = make.schema({"camliType": "permanode", "random": "x"})
    text = "jsonsign: no 13-byte camliSig separator found in sjson"
    assert reason(World(), unsigned) == text


def test_a_chunk_that_ends_too_early_breaks_its_file() -> None:
    world = World()
    chunk = make.blob(b"short")
    world.add([chunk])
    assert reason(world, make.file([make.part(chunk, 6)])) == "unexpected EOF"


def test_a_null_part_breaks_its_file_and_nothing_else() -> None:
    world = World()
    broken = make.file([None])
    chunk = make.blob(b"text")
    good = make.file([make.part(chunk)])
    assert list(world.add([broken, chunk, good], batch=3)) == [broken[0]]
    assert world.index.view.file_info(good[0]) is not None
    assert world.index.view.meta(broken[0]) is None


def test_a_part_with_both_refs_breaks_its_file() -> None:
    world = World()
    chunk = make.blob(b"text")
    world.add([chunk])
    both = {"blobRef": chunk[0], "bytesRef": chunk[0], "size": 4}
    assert "both" in reason(world, make.file([both]))


def test_a_hole_is_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    hole = make.file([{"size": 3_000_000}])
    world.add([hole])
    info = world.index.view.file_info(hole[0])
    assert info is not None
    assert (info.size, info.whole_ref) == (3_000_000, Ref.of(bytes(3_000_000)))


def test_a_hole_over_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_HOLE_SIZE", 1_000_000)
    assert "no blob holds" in reason(World(), make.file([{"size": 1_000_001}]))
    inner = make.bytes_blob([{"size": 600_000}, {"size": 600_000}])
    world = World()
    world.add([inner])
    assert "no blob holds" in reason(world, make.file([make.via(inner, 1_200_000)]))


def test_a_hole_of_terabytes_is_refused_at_once() -> None:
    assert "no blob holds" in reason(World(), make.file([{"size": 2**62}]))


def test_blobs_that_name_each_other_without_end_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(files, "MAX_PIECES", 999)
    chunk = make.blob(b"x")
    ten = make.bytes_blob([make.part(chunk)] * 10)
    hundred = make.bytes_blob([make.via(ten, 10)] * 10)
    world = World()
    assert world.add([chunk, ten, hundred, make.file([make.via(hundred, 100)] * 9)]) == {}
    assert "pieces" in reason(world, make.file([make.via(hundred, 100)] * 10))


def test_the_others_of_a_batch_are_indexed() -> None:
    world = World()
    bad = make.schema({"camliType": "permanode"})
    batch = [make.key(), bad, make.permanode("p")]
    assert list(world.add(batch, batch=3)) == [bad[0]]
    assert world.index.view.meta(batch[2][0]) is not None


def test_uploading_a_refused_blob_again_says_so_again() -> None:
    world = World()
    bad = make.schema({"camliType": "permanode"})
    assert reason(world, bad) == reason(world, bad)


def test_a_refused_blob_is_not_tried_at_each_start() -> None:
    world = World()
    bad = make.schema({"camliType": "permanode"})
    world.add([bad])
    fetched: list[Ref] = []
    blobs = world.blobs

    class Watched(Memory):
        def fetch(self, ref: Ref) -> bytes:
            fetched.append(ref)
            return blobs.fetch(ref)

        def enumerate(self, after: str = "") -> Iterator[SizedRef]:
            return blobs.enumerate(after)

    World(world.kv, Watched())
    assert fetched == []


def test_a_reindex_reports_refused_blobs_and_goes_on() -> None:
    world = World()
    bad = make.schema({"camliType": "permanode"})
    world.add([make.key(), bad, make.permanode("p")], batch=3)
    report = world.index.reindex()
    assert list(report.refused) == [bad[0]]
    assert report.blobs_count == 3
    assert world.index.view.meta(make.permanode("p")[0]) is not None


def test_a_refusal_crosses_process_borders() -> None:
    error = IndexRefused({make.key()[0]: "why"})
    again = pickle.loads(pickle.dumps(error))
    assert again.reasons == error.reasons
    assert str(again) == str(error)


# -- waiting ------------------------------------------------------------------------------------


def test_what_waits_for_a_blob_that_is_refused_goes_on_with_its_bytes() -> None:
    chunk = make.schema({"camliType": "permanode"})
    whole = make.file([make.part(chunk)])
    early, late = World(), World()
    early.add([whole, chunk])
    late.add([chunk, whole])
    assert early.rows() == late.rows()
    assert early.index.view.file_info(whole[0]) is not None


def test_a_late_delete_survives_restarts() -> None:
    target = make.permanode("p")
    world = World()
    world.add([make.key(), make.delete(target[0])])
    world = world.restarted().restarted()
    world.add([target])
    assert world.index.view.is_deleted(target[0])
    assert world.own_rows() == []


def test_a_delete_claim_does_not_wait_for_the_mere_bytes_of_its_target() -> None:
    bad = make.schema({"camliType": "permanode"})
    world = World()
    claim = make.delete(bad[0])
    world.add([make.key(), claim, bad])
    assert dict(world.rows())[b"have:" + claim[0].encode()] == b"%d" % len(claim[1])
    assert not world.index.view.is_deleted(bad[0])


def test_a_crash_between_an_arrival_and_its_consequences_is_made_good() -> None:
    chunk = make.blob(b"text")
    whole = make.file([make.part(chunk)])
    world = World()
    world.add([whole])
    rows = list(world.kv.find())
    world.add([chunk])
    complete = world.rows()
    crashed = World(blobs=world.blobs)
    for key, value in rows:
        crashed.kv.set(key, value)
    crashed.kv.set(b"have:" + chunk[0].encode(), b"4|indexed")
    crashed.kv.set(b"meta:" + chunk[0].encode(), b"4|")
    assert crashed.restarted().rows() == complete


def test_a_damaged_chunk_is_waited_for_until_it_is_uploaded_again() -> None:
    chunk = make.blob(b"text")
    whole = make.file([make.part(chunk)])

    class Damaged(Memory):
        bad = True

        def fetch(self, ref: Ref) -> bytes:
            if ref == chunk[0] and self.bad:
                raise Corrupt("fetch", ref, "flipped bits")
            return super().fetch(ref)

    blobs = Damaged()
    world = World(blobs=blobs)
    world.add([chunk, whole])
    assert world.index.view.file_info(whole[0]) is None
    assert list(world.index.view.waiting()) == [(whole[0], chunk[0])]
    blobs.bad = False
    world.add([chunk])
    assert world.index.view.file_info(whole[0]) is not None
    assert list(world.index.view.waiting()) == []


def test_a_store_that_does_not_answer_is_no_verdict_on_the_blob() -> None:
    chunk = make.blob(b"text")
    whole = make.file([make.part(chunk)])

    class Away(Memory):
        def fetch(self, ref: Ref) -> bytes:
            raise Unavailable("fetch", ref)

    world = World(blobs=Away())
    with pytest.raises(Unavailable):
        world.add([whole])
    assert list(world.index.view.refused()) == []


class Shaky(Memory):
    """Answers unless told not to."""

    away = False

    def fetch(self, ref: Ref) -> bytes:
        if self.away:
            raise Unavailable("fetch", ref)
        return super().fetch(ref)


def test_what_could_not_be_tried_is_tried_with_the_next_arrival() -> None:
    chunk = make.blob(b"text")
    whole = make.file([make.part(chunk)])
    blobs = Shaky()
    world = World(blobs=blobs)
    world.add([whole])
    blobs.away = True
    with pytest.raises(Unavailable):
        world.add([chunk])
    assert world.index.view.meta(chunk[0]) is not None
    blobs.away = False
    world.add([make.blob(b"another")])
    assert world.index.view.file_info(whole[0]) is not None


@pytest.mark.parametrize("early", [True, False])
def test_what_could_not_be_tried_is_tried_at_the_next_start(early: bool) -> None:
    chunk = make.blob(b"text")
    whole = make.file([make.part(chunk)])
    blobs = Shaky()
    world = World(blobs=blobs)
    world.add([whole] if early else [chunk])
    blobs.away = True
    with pytest.raises(Unavailable):
        world.add([chunk] if early else [whole])
    world.index.close()
    blobs.away = False
    assert world.restarted().index.view.file_info(whole[0]) is not None


def test_a_blob_that_arrives_while_another_is_found_to_lack_it_is_not_overlooked() -> None:
    chunk = make.blob(b"text")
    whole = make.file([make.part(chunk)])

    class Late(Memory):
        def fetch(self, ref: Ref) -> bytes:
            if ref == chunk[0] and not list(self.stat([ref])):
                # It comes, stored and indexed, after we looked and before our verdict is kept.
                self.receive(*chunk)
                world.index.receive([chunk])
                raise NotFound("fetch", ref)
            return super().fetch(ref)

    world = World(blobs=Late())
    world.add([whole])
    assert world.index.view.file_info(whole[0]) is not None
    assert world.own_rows() == []


def test_a_waiting_blob_that_is_gone_is_forgotten() -> None:
    chunk = make.blob(b"text")
    whole = make.file([make.part(chunk)])
    world = World()
    world.add([whole])
    world.blobs.remove([whole[0]])
    world.add([chunk])
    assert world.own_rows() == []
    assert list(world.index.view.waiting()) == []


def test_many_threads_index_the_same_blobs() -> None:
    world = World()
    blobs = corpus()
    world.blobs.receive_many(blobs)

    def feed(offset: int) -> None:
        turned = [*blobs[offset:], *blobs[:offset]]
        for start in range(0, len(turned), 13):
            world.index.receive(turned[start : start + 13])

    threads = [threading.Thread(target=feed, args=(140 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = World()
    alone.add(blobs, batch=100)
    assert world.rows() == alone.rows()
    assert world.own_rows() == []


# -- rows that would be too large ---------------------------------------------------------------


@pytest.mark.parametrize("size", [700, 62_000, 63_500, 300_000])
def test_a_value_of_any_size_survives_a_restart(size: int) -> None:
    value = "é" * (size // 2) + " end"
    target = make.permanode("p")
    world = World()
    world.add([make.key(), target, make.claim(target[0], "tag", value)], batch=3)
    view = world.restarted().index.view
    (claim,) = view.claims(target[0])
    assert claim.value == value
    for wanted in (value, ""):
        found = with_attribute(view, [OWNER_KEY_ID], "tag", wanted, 10, FAR_NS)
        assert found["withAttr"] == [{"permanode": target[0]}]
    assert with_attribute(view, [OWNER_KEY_ID], "tag", value + "x", 10, FAR_NS)["withAttr"] is None


def test_a_permanode_with_a_name_that_no_store_takes_has_no_rows() -> None:
    nobody = Ref("x" * 800 + "-00")
    world = World()
    claim = make.claim(nobody, "camliMember", nobody)
    world.add([make.key(), claim], batch=2)
    assert world.index.view.meta(claim[0]) is not None
    assert world.index.view.claims(nobody) == []


@pytest.mark.parametrize("camli_type", ["a\0b", "\ud800", "x" * 70_000, "a|b"])
def test_any_text_may_stand_as_a_type(camli_type: str) -> None:
    text = camli_type.replace("\0", "\\u0000").replace("\ud800", "\\ud800")
    odd = make.blob(b'{"camliVersion": 1, "camliType": "' + text.encode() + b'"}')
    world = World()
    world.add([odd])
    meta = world.index.view.meta(odd[0])
    assert meta is not None
    assert meta.camli_type == camli_type.replace("\0", "\ufffd").replace("\ud800", "\ufffd")


# -- seen as a store ----------------------------------------------------------------------------


def test_the_index_lists_what_it_knows() -> None:
    world = World()
    world.add(corpus(), batch=100)
    storage = world.index.storage
    everything = sorted(SizedRef(ref, len(data)) for ref, data in corpus())
    assert list(storage.enumerate()) == everything
    assert list(storage.enumerate(everything[99].ref)) == everything[100:]
    some = [ref for ref, _ in corpus()[:5]]
    assert sorted(storage.stat([*some, Ref.of(b"absent")])) == sorted(
        found for found in everything if found.ref in some
    )


def test_what_is_written_to_it_is_indexed() -> None:
    world = World()
    world.blobs.receive_many(corpus())
    world.index.storage.receive_many(corpus())
    assert len(list(world.index.storage.enumerate())) == len(corpus())


def test_it_has_no_data_and_removes_nothing() -> None:
    storage = World().index.storage
    with pytest.raises(Unsupported):
        storage.fetch(Ref.of(b""))
    with pytest.raises(Unsupported):
        storage.remove([Ref.of(b"")])


def test_the_key_id_of_a_signer_is_known_after_its_first_claim() -> None:
    world = World()
    world.add([make.key(), make.permanode("p")], batch=2)
    assert world.index.view.key_id(signer().ref) is None
    world.add([make.claim(make.permanode("p")[0], "tag", "x")])
    assert world.index.view.key_id(signer().ref) == OWNER_KEY_ID
