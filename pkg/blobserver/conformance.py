"""What every storage promises, as tests."""

import threading
from collections.abc import Callable, Iterable
from itertools import islice

import pytest

from ..blob import MAX_BLOB_SIZE, Ref, SizedRef
from ..errors import Corrupt, Invalid, NotFound, TooLarge
from .receive import receive, receive_many
from .storage import Storage

EMPTY = Ref("sha224-d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f")

ODD_POSITIONS = (
    *("a", "s", "z", "!", "sha1-ff", "sha224", "sha224-", "sha225", "sha224-7", "sha224-7f8"),
    *("sha224-7f80", "sha224-7f8\x7f", "sha224-7G", "sha224-zz", "sha224-" + "f" * 56, "\u20ac"),
)


def sample(count: int) -> dict[Ref, bytes]:
    """So many small blobs, in ref order."""
    contents = [b"blob number %d" % number for number in range(count)]
    return dict(sorted((Ref.of(data), data) for data in contents))


def sized(blobs: dict[Ref, bytes]) -> list[SizedRef]:
    return [SizedRef(ref, len(data)) for ref, data in sorted(blobs.items())]


def run_together(*works: Callable[[], None]) -> None:
    """Run each in a thread of its own and raise what one of them raised."""
    failures: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    for failure in failures:
        raise failure


class StorageSuite:
    """Subclass it and give a `storage` fixture: an empty store, closed afterwards."""

    # -- storing and reading --------------------------------------------------------------------

    def test_a_new_store_is_empty(self, storage: Storage) -> None:
        assert list(storage.enumerate()) == []
        assert list(storage.stream()) == []

    def test_a_missing_blob_is_not_found(self, storage: Storage) -> None:
        ref = Ref.of(b"nowhere")
        assert list(storage.stat([ref])) == []
        with pytest.raises(NotFound):
            storage.fetch(ref)
        with pytest.raises(NotFound):
            storage.fetch_range(ref, 0, 1)

    def test_a_blob_is_read_back(self, storage: Storage) -> None:
        ref = Ref.of(b"hello")
        assert storage.receive(ref, b"hello") == SizedRef(ref, 5)
        assert storage.fetch(ref) == b"hello"
        assert list(storage.stat([ref])) == [SizedRef(ref, 5)]
        assert list(storage.enumerate()) == [SizedRef(ref, 5)]

    @pytest.mark.parametrize("count", [1, 5, 100])
    def test_everything_received_is_listed_in_order(self, storage: Storage, count: int) -> None:
        blobs = sample(count)
        for ref, data in reversed(blobs.items()):
            storage.receive(ref, data)
        assert list(storage.enumerate()) == sized(blobs)
        assert {ref: storage.fetch(ref) for ref in blobs} == blobs

    def test_a_batch_is_answered_in_the_order_given(self, storage: Storage) -> None:
        batch = list(sample(50).items())[::-1]
        stored = storage.receive_many(iter(batch))
        assert stored == [SizedRef(ref, len(data)) for ref, data in batch]
        assert [ref for ref, _ in storage.enumerate()] == sorted(ref for ref, _ in batch)

    def test_an_empty_batch_is_fine(self, storage: Storage) -> None:
        assert storage.receive_many([]) == []
        storage.sync()

    def test_the_same_blob_may_be_stored_again(self, storage: Storage) -> None:
        ref = Ref.of(b"again")
        for _ in range(3):
            assert storage.receive(ref, b"again") == SizedRef(ref, 5)
        assert storage.receive_many([(ref, b"again")] * 3) == [SizedRef(ref, 5)] * 3
        assert list(storage.enumerate()) == [SizedRef(ref, 5)]
        assert storage.fetch(ref) == b"again"

    def test_the_empty_blob_is_a_blob(self, storage: Storage) -> None:
        storage.receive(EMPTY, b"")
        assert storage.fetch(EMPTY) == b""
        assert storage.fetch_range(EMPTY, 0, 10) == b""
        assert list(storage.enumerate()) == list(storage.stat([EMPTY])) == [SizedRef(EMPTY, 0)]
        storage.remove([EMPTY])
        assert list(storage.enumerate()) == []

    def test_the_largest_blob_is_kept_whole(self, storage: Storage) -> None:
        # A store that adds to what it is given takes a little less.
        size = getattr(storage, "max_blob_size", MAX_BLOB_SIZE)
        data = (bytes(range(256)) * (size // 256 + 1))[:size]
        ref = Ref.of(data)
        receive(storage, ref, data)
        assert storage.fetch(ref) == data
        assert storage.fetch_range(ref, size - 3, 100) == data[-3:]
        assert list(storage.enumerate()) == [SizedRef(ref, size)]

    def test_any_content_comes_back(self, storage: Storage) -> None:
        contents = [
            b"\0", b"\0" * 5000, bytes(range(256)), b"\r\n", b"\xff\xfe", b"[sha224-00 5]hello",
            b'{"camliVersion": 1, "camliType": "permanode"}', b"PK\x03\x04", b"\xef\xbb\xbf",
        ]  # fmt: skip
        for data in contents:
            storage.receive(Ref.of(data), data)
        assert [storage.fetch(Ref.of(data)) for data in contents] == contents

    def test_every_known_hash_is_taken(self, storage: Storage) -> None:
        refs = [
            Ref("sha1-aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"),
            Ref.of(b"hello"),
            Ref("sha256-2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
        ]
        for ref in reversed(refs):
            receive(storage, ref, b"hello")
        assert list(storage.enumerate()) == [SizedRef(ref, 5) for ref in refs]
        assert [storage.fetch(ref) for ref in refs] == [b"hello"] * 3
        assert list(storage.enumerate("sha224-")) == [SizedRef(ref, 5) for ref in refs[1:]]

    def test_many_blobs_are_fetched_in_the_order_asked_for(self, storage: Storage) -> None:
        blobs = sample(30)
        storage.receive_many(blobs.items())
        missing = Ref.of(b"missing")
        wanted = [*list(blobs)[::-1], missing, next(iter(blobs))]
        got = list(storage.fetch_many(wanted))
        assert [ref for ref, _ in got] == wanted
        assert isinstance(got[30][1], NotFound)
        assert [data for ref, data in got if ref != missing] == [
            blobs[ref] for ref in wanted if ref != missing
        ]

    # -- the checked door -----------------------------------------------------------------------

    def test_bytes_that_do_not_match_their_ref_are_refused(self, storage: Storage) -> None:
        with pytest.raises(Corrupt):
            receive(storage, Ref.of(b"a"), b"b")
        assert list(storage.enumerate()) == []

    def test_one_bad_blob_refuses_its_batch(self, storage: Storage) -> None:
        good = Ref.of(b"good")
        with pytest.raises(Corrupt):
            receive_many(storage, [(good, b"good"), (Ref.of(b"a"), b"b")])
        assert list(storage.enumerate()) == []

    def test_a_blob_over_the_limit_is_refused(self, storage: Storage) -> None:
        data = bytes(MAX_BLOB_SIZE + 1)
        with pytest.raises(TooLarge):
            receive(storage, Ref.of(data), data)
        assert list(storage.enumerate()) == []

    def test_a_hash_that_nobody_can_check_is_refused(self, storage: Storage) -> None:
        with pytest.raises(Invalid):
            receive(storage, Ref("blake9-abcdef"), b"data")
        assert list(storage.enumerate()) == []

    # -- durability -----------------------------------------------------------------------------

    def test_unsynced_blobs_are_not_seen(self, storage: Storage) -> None:
        before, late = Ref.of(b"before"), Ref.of(b"late")
        storage.receive(before, b"before")
        assert storage.write_many([(late, b"late")]) == [SizedRef(late, 4)]
        assert list(storage.stat([late, before])) == [SizedRef(before, 6)]
        assert list(storage.enumerate()) == [SizedRef(before, 6)]
        storage.sync()
        assert sorted(storage.stat([late, before])) == sorted(storage.enumerate())
        assert storage.fetch(late) == b"late"

    def test_writing_again_does_not_hide_a_blob(self, storage: Storage) -> None:
        ref = Ref.of(b"there")
        storage.receive(ref, b"there")
        storage.write_many([(ref, b"there")])
        assert list(storage.stat([ref])) == list(storage.enumerate()) == [SizedRef(ref, 5)]
        assert storage.fetch(ref) == b"there"
        storage.sync()
        assert list(storage.enumerate()) == [SizedRef(ref, 5)]

    def test_one_sync_serves_many_writes(self, storage: Storage) -> None:
        blobs = sample(200)
        rows = list(blobs.items())
        for begin in range(0, 200, 7):
            storage.write_many(rows[begin : begin + 7])
        storage.sync()
        assert list(storage.enumerate()) == sized(blobs)

    def test_a_sync_serves_the_writes_of_every_thread(self, storage: Storage) -> None:
        ref = Ref.of(b"elsewhere")

        def write() -> None:
            storage.write_many([(ref, b"elsewhere")])

        run_together(write)
        storage.sync()
        assert list(storage.enumerate()) == [SizedRef(ref, 9)]

    def test_a_batch_that_breaks_off_stores_nothing_by_itself(self, storage: Storage) -> None:
        def broken() -> Iterable[tuple[Ref, bytes]]:
            yield Ref.of(b"first"), b"first"
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            storage.receive_many(broken())
        assert list(storage.enumerate()) == []
        storage.receive(Ref.of(b"first"), b"first")
        assert storage.fetch(Ref.of(b"first")) == b"first"

    # -- stat and enumerate ---------------------------------------------------------------------

    def test_stat_yields_what_is_there_each_once(self, storage: Storage) -> None:
        blobs = sample(100)
        storage.receive_many(blobs.items())
        missing = [Ref.of(b"missing %d" % number) for number in range(50)]
        asked = [*missing, *blobs, *missing, *blobs]
        assert sorted(storage.stat(iter(asked))) == sized(blobs)
        assert list(storage.stat([])) == []

    def test_enumerate_begins_after_the_text_given(self, storage: Storage) -> None:
        blobs = sample(100)
        storage.receive_many(blobs.items())
        refs = list(blobs)
        for place in (0, 2, 50, 98, 99):
            assert [ref for ref, _ in storage.enumerate(refs[place])] == refs[place + 1 :]
        assert [ref for ref, _ in islice(storage.enumerate(), 3)] == refs[:3]
        assert [ref for ref, _ in islice(storage.enumerate(refs[2]), 1)] == refs[3:4]

    @pytest.mark.parametrize("after", ODD_POSITIONS)
    def test_after_may_be_any_text(self, storage: Storage, after: str) -> None:
        blobs = sample(100)
        storage.receive_many(blobs.items())
        assert [ref for ref, _ in storage.enumerate(after)] == [r for r in blobs if r > after]

    def test_pages_taken_one_after_the_other_make_the_whole(self, storage: Storage) -> None:
        blobs = sample(100)
        storage.receive_many(blobs.items())
        seen: list[SizedRef] = []
        while page := list(islice(storage.enumerate(seen[-1].ref if seen else ""), 7)):
            seen += page
            assert len(seen) <= 100, "the pages never end"
        assert seen == sized(blobs)

    def test_a_listing_stays_usable_while_others_write(self, storage: Storage) -> None:
        blobs = sample(60)
        storage.receive_many(blobs.items())
        listing, streaming = storage.enumerate(), storage.stream()
        seen = [next(listing).ref]
        streamed = [next(streaming).ref]
        refs = list(blobs)
        storage.remove(refs[30:40])
        more = sample(160)
        storage.receive_many(more.items())
        storage.remove(refs[50:55])
        seen += [ref for ref, _ in listing]
        streamed += [blob.ref for blob in streaming]
        kept = [ref for ref in refs if ref not in refs[30:40] + refs[50:55]]
        assert seen == sorted(set(seen))
        assert set(kept) <= set(seen) <= set(more)
        assert len(streamed) == len(set(streamed))
        assert set(kept) <= set(streamed) <= set(more)

    def test_a_listing_may_be_left_in_the_middle(self, storage: Storage) -> None:
        storage.receive_many(sample(10).items())
        for _ in range(300):
            listing = storage.enumerate()
            next(listing)
            listing.close()  # type: ignore[attr-defined]
        assert len(list(storage.enumerate())) == 10

    # -- ranges ---------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("offset", "length", "expected"),
        [(5, 3, b"big"), (5, 8, b"big blob"), (5, 100, b"big blob"), (0, 4, b"Some"), (13, 5, b""),
         (0, 0, b""), (13, 0, b""), (12, 1, b"b"), (0, 13, b"Some big blob"),
         (3, 2**40, b"e big blob")],
    )  # fmt: skip
    def test_a_range_is_cut_at_the_end(
        self, storage: Storage, offset: int, length: int, expected: bytes
    ) -> None:
        ref = Ref.of(b"Some big blob")
        storage.receive(ref, b"Some big blob")
        assert storage.fetch_range(ref, offset, length) == expected
        assert storage.fetch_range(ref, offset, length) == expected

    @pytest.mark.parametrize(("offset", "length"), [(14, 1), (-1, 3), (0, -1), (14, 0), (2**40, 1)])
    def test_a_range_outside_the_blob_is_refused(
        self, storage: Storage, offset: int, length: int
    ) -> None:
        ref = Ref.of(b"Some big blob")
        storage.receive(ref, b"Some big blob")
        for _ in range(2):
            with pytest.raises(Invalid):
                storage.fetch_range(ref, offset, length)
            storage.fetch(ref)

    # -- removing -------------------------------------------------------------------------------

    def test_removed_blobs_are_gone(self, storage: Storage) -> None:
        blobs = sample(100)
        storage.receive_many(blobs.items())
        refs = list(blobs)
        storage.remove(refs[:40])
        assert [ref for ref, _ in storage.enumerate()] == refs[40:]
        assert list(storage.stat(refs[:40])) == []
        with pytest.raises(NotFound):
            storage.fetch(refs[0])
        assert storage.fetch(refs[40]) == blobs[refs[40]]
        storage.remove(iter(refs))
        assert list(storage.enumerate()) == []

    def test_removing_twice_is_no_error(self, storage: Storage) -> None:
        ref = Ref.of(b"gone")
        storage.receive(ref, b"gone")
        for _ in range(3):
            storage.remove([ref, ref, Ref.of(b"never there")])
        assert list(storage.enumerate()) == []
        storage.remove([])

    def test_a_removed_blob_may_come_back(self, storage: Storage) -> None:
        ref = Ref.of(b"back")
        for _ in range(3):
            storage.receive(ref, b"back")
            storage.remove([ref])
        assert list(storage.stat([ref])) == []
        storage.receive(ref, b"back")
        assert storage.fetch(ref) == b"back"

    def test_a_blob_removed_before_its_sync_stays_away(self, storage: Storage) -> None:
        ref = Ref.of(b"short life")
        storage.write_many([(ref, b"short life")])
        storage.remove([ref])
        storage.sync()
        assert list(storage.enumerate()) == []

    # -- streams --------------------------------------------------------------------------------

    def test_a_stream_yields_every_blob_once(self, storage: Storage) -> None:
        blobs = sample(100)
        storage.receive_many(blobs.items())
        streamed = list(storage.stream())
        assert len(streamed) == 100
        assert {blob.ref: blob.data for blob in streamed} == blobs
        assert len({blob.token for blob in streamed}) == 100

    def test_a_stream_goes_on_from_any_token(self, storage: Storage) -> None:
        blobs = sample(25)
        storage.receive_many(blobs.items())
        whole = [blob.ref for blob in storage.stream()]
        pieces: list[Ref] = []
        token = ""
        for _ in whole:
            part = list(islice(storage.stream(token), 2))
            if pieces:
                assert part.pop(0).ref == pieces[-1]
            assert part, "the stream ends early"
            pieces.append(part[0].ref)
            token = part[0].token
        assert pieces == whole
        assert [blob.ref for blob in islice(storage.stream(token), 30)] == whole[-1:]

    # -- many at once ---------------------------------------------------------------------------

    def test_threads_may_store_the_same_blobs(self, storage: Storage) -> None:
        blobs = sample(60)
        rows = list(blobs.items())

        def write(rotation: int) -> None:
            turned = rows[rotation:] + rows[:rotation]
            for begin in range(0, 60, 6):
                storage.receive_many(turned[begin : begin + 6])
                got = {ref for ref, _ in storage.stat([ref for ref, _ in turned[: begin + 6]])}
                assert got >= {ref for ref, _ in turned[: begin + 6]}, "acknowledged, not there"

        run_together(*(lambda r=rotation: write(r) for rotation in (0, 13, 27, 44)))
        assert list(storage.enumerate()) == sized(blobs)
        assert {ref: storage.fetch(ref) for ref in blobs} == blobs

    def test_threads_may_write_list_and_remove_together(self, storage: Storage) -> None:
        stays = sample(20)
        storage.receive_many(stays.items())
        comes_and_goes = [(Ref.of(b"guest %d" % n), b"guest %d" % n) for n in range(20)]

        def change() -> None:
            for _ in range(5):
                storage.receive_many(comes_and_goes)
                storage.remove([ref for ref, _ in comes_and_goes])

        def look() -> None:
            for _ in range(10):
                seen = [ref for ref, _ in storage.enumerate()]
                assert seen == sorted(set(seen))
                assert set(stays) <= set(seen)
                for ref, data in storage.fetch_many(list(stays)):
                    assert data == stays[ref]

        run_together(change, change, look, look)
        assert list(storage.enumerate()) == sized(stays)

    # -- generation -----------------------------------------------------------------------------

    def test_a_generation_lasts_until_it_is_reset(self, storage: Storage) -> None:
        first = storage.generation()
        if first is None:
            return  # a store without one promises nothing
        assert first.token
        assert first.initialised.utcoffset() is not None
        assert storage.generation() == first
        storage.reset_generation()
        second = storage.generation()
        assert second is not None
        assert second.token != first.token
        assert second.initialised >= first.initialised
