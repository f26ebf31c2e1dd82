"""What every sorted key-value store promises, as tests."""

import threading
from itertools import islice

import pytest

from ..errors import Invalid, TooLarge
from .kv import MAX_KEY_SIZE, MAX_VALUE_SIZE, Batch, KeyValue, after_prefix


def fill(kv: KeyValue, *keys: bytes) -> None:
    """Commit a row for each key; its value is `<key>!`."""
    batch = Batch()
    for key in keys:
        batch.set(key, key + b"!")
    kv.commit(batch)


def keys(kv: KeyValue, start: bytes = b"", end: bytes = b"") -> list[bytes]:
    return [key for key, _ in kv.find(start, end)]


class KeyValueSuite:
    """Subclass it and give a `kv` fixture: an empty store, closed afterwards."""

    def test_many_rows_are_written_in_bulk(self, kv: KeyValue) -> None:
        kv.set(b"before", b"1")
        with kv.bulk():
            batch = Batch()
            batch.set(b"within", b"2")
            kv.commit(batch, durable=False)
            assert [key for key, _ in kv.find()] == [b"before", b"within"]
        kv.set(b"behind", b"3")
        assert list(kv.find()) == [(b"before", b"1"), (b"behind", b"3"), (b"within", b"2")]

    def test_a_new_store_is_empty(self, kv: KeyValue) -> None:
        assert list(kv.find()) == []
        assert kv.get(b"a") is None

    def test_a_row_is_read_back(self, kv: KeyValue) -> None:
        kv.set(b"foo", b"bar")
        assert kv.get(b"foo") == b"bar"
        assert list(kv.find()) == [(b"foo", b"bar")]

    def test_values_and_keys_are_bytes(self, kv: KeyValue) -> None:
        kv.set(b"k", b"v")
        key, value = next(kv.find())
        assert (type(key), type(value), type(kv.get(b"k"))) == (bytes, bytes, bytes)

    def test_the_last_word_on_a_key_counts(self, kv: KeyValue) -> None:
        kv.set(b"foo", b"bar")
        kv.set(b"foo", b"other")
        batch = Batch()
        batch.set(b"a", b"1")
        batch.delete(b"a")
        batch.set(b"b", b"1")
        batch.set(b"b", b"2")
        batch.delete(b"c")
        batch.set(b"c", b"3")
        kv.commit(batch)
        assert list(kv.find()) == [(b"b", b"2"), (b"c", b"3"), (b"foo", b"other")]

    def test_a_missing_key_is_none(self, kv: KeyValue) -> None:
        kv.set(b"foo", b"bar")
        assert kv.get(b"fo") is None
        assert kv.get(b"foo2") is None

    def test_deleting_twice_is_no_error(self, kv: KeyValue) -> None:
        kv.set(b"foo", b"bar")
        kv.delete(b"foo")
        assert kv.get(b"foo") is None
        kv.delete(b"foo")
        assert list(kv.find()) == []

    def test_a_batch_may_delete_what_is_not_there(self, kv: KeyValue) -> None:
        batch = Batch()
        batch.delete(b"missing")
        batch.set(b"there", b"1")
        batch.delete(b"missing too")
        kv.commit(batch)
        assert keys(kv) == [b"there"]

    def test_an_empty_batch_changes_nothing(self, kv: KeyValue) -> None:
        fill(kv, b"a")
        kv.commit(Batch())
        assert keys(kv) == [b"a"]

    @pytest.mark.parametrize("durable", [True, False])
    def test_a_batch_shows_at_once(self, kv: KeyValue, durable: bool) -> None:
        batch = Batch()
        batch.set(b"a", b"1")
        kv.commit(batch, durable=durable)
        assert kv.get(b"a") == b"1"

    @pytest.mark.parametrize(
        ("start", "end", "found"),
        [
            (b"", b"", [b"foo", b"fop", b"x"]),
            (b"", b"foo", []),
            (b"", b"foo\x01", [b"foo"]),
            (b"foo", b"fop", [b"foo"]),
            (b"foo", b"foo", []),
            (b"fop", b"foo", []),
            (b"fop", b"", [b"fop", b"x"]),
            (b"foo!", b"", [b"fop", b"x"]),
            (b"foo|", b"foo}", []),
            (b"y", b"", []),
            (b"", b"zz", [b"foo", b"fop", b"x"]),
        ],
    )
    def test_find_takes_the_start_and_leaves_out_the_end(
        self, kv: KeyValue, start: bytes, end: bytes, found: list[bytes]
    ) -> None:
        fill(kv, b"x", b"foo", b"fop")
        assert keys(kv, start, end) == found

    def test_order_is_that_of_bytes(self, kv: KeyValue) -> None:
        texts = ["a", "B", "b", "A", "é", "z", "~", "a|b", "a b", "aa", "😀", "\ufffd", "10", "9"]
        fill(kv, *(text.encode() for text in texts))
        assert keys(kv) == sorted(text.encode() for text in texts)

    def test_ranges_are_on_keys_not_on_values(self, kv: KeyValue) -> None:
        kv.set(b"a", b"zzz")
        kv.set(b"z", b"aaa")
        assert keys(kv, b"a", b"b") == [b"a"]

    def test_a_range_by_a_separator_holds_only_its_rows(self, kv: KeyValue) -> None:
        fill(kv, b"foo", b"foo|", b"foo|bar", b"foo|\x7f", b"foo}", b"fop")
        assert keys(kv, b"foo|", b"foo}") == [b"foo|", b"foo|bar", b"foo|\x7f"]
        assert [key for key, _ in kv.prefixed(b"foo|")] == [b"foo|", b"foo|bar", b"foo|\x7f"]

    def test_the_key_after_a_prefix_is_above_all_that_begin_with_it(self) -> None:
        assert after_prefix(b"ab|") == b"ab}"
        assert after_prefix(b"a\xff\xff") == b"b"
        assert after_prefix(b"") == after_prefix(b"\xff") == b""

    def test_the_longest_row_is_kept_whole(self, kv: KeyValue) -> None:
        key, value = b"k" * MAX_KEY_SIZE, b"v" * MAX_VALUE_SIZE
        kv.set(key, value)
        assert kv.get(key) == value
        assert list(kv.find()) == [(key, value)]

    def test_a_row_over_the_limits_is_refused_and_nothing_is_stored(self, kv: KeyValue) -> None:
        for key, value in [
            (b"k" * (MAX_KEY_SIZE + 1), b"v"),
            (b"k", b"v" * (MAX_VALUE_SIZE + 1)),
        ]:
            with pytest.raises(TooLarge):
                kv.set(key, value)
        assert list(kv.find()) == []

    @pytest.mark.parametrize("bad", [b"\xff", b"a\0b", b"\xed\xa0\x80", b"a\xe9"])
    def test_a_row_that_is_no_text_is_refused(self, kv: KeyValue, bad: bytes) -> None:
        with pytest.raises(Invalid):
            kv.set(bad, b"v")
        with pytest.raises(Invalid):
            kv.set(b"k", bad)
        assert list(kv.find()) == []

    def test_asking_for_a_key_that_is_no_text_finds_nothing(self, kv: KeyValue) -> None:
        fill(kv, b"a", b"b")
        assert kv.get(b"\xff\xfe") is None
        assert keys(kv, b"a\xff", b"\xff") == [b"b"]
        kv.delete(b"\xff")

    def test_the_empty_value_and_digits_stay_what_they_are(self, kv: KeyValue) -> None:
        rows = {b"empty": b"", b"number": b"0042", b"float": b"1e3", b"1": b"-0"}
        for key, value in rows.items():
            kv.set(key, value)
        assert dict(kv.find()) == rows
        assert {key: kv.get(key) for key in rows} == rows

    def test_many_keys_are_read_in_one_call(self, kv: KeyValue) -> None:
        fill(kv, *(b"%04d" % number for number in range(2000)))
        wanted = [b"%04d" % number for number in range(0, 4000, 3)]
        found = kv.get_many(wanted)
        assert found == {key: key + b"!" for key in wanted if key < b"2000"}

    def test_find_sees_the_moment_of_its_first_step(self, kv: KeyValue) -> None:
        fill(kv, *(b"%04d" % number for number in range(3000)))
        rows = kv.find()
        seen = [next(rows)[0]]
        batch = Batch()
        for number in range(0, 3000, 2):
            batch.delete(b"%04d" % number)
        batch.set(b"0001", b"changed")
        batch.set(b"5000", b"new")
        kv.commit(batch)
        rest = list(rows)
        assert seen + [key for key, _ in rest] == [b"%04d" % number for number in range(3000)]
        assert all(value == key + b"!" for key, value in rest)
        assert len(keys(kv)) == 1501

    def test_an_open_find_blocks_no_writer_and_no_reader(self, kv: KeyValue) -> None:
        fill(kv, *(b"%04d" % number for number in range(1000)))
        finds = [kv.find() for _ in range(20)]
        for rows in finds:
            next(rows)
        done = threading.Event()

        def write() -> None:
            for number in range(20):
                kv.set(b"w%d" % number, b"1")
            kv.wipe()
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        writer.join(60)
        assert done.is_set()
        assert kv.get(b"0001") is None
        assert [len(list(rows)) for rows in finds] == [999] * 20

    def test_a_find_may_be_left_in_the_middle(self, kv: KeyValue) -> None:
        fill(kv, *(b"%04d" % number for number in range(1000)))
        for _ in range(300):
            rows = kv.find()
            assert next(rows)[0] == b"0000"
            rows.close()  # type: ignore[attr-defined]
        assert len(keys(kv)) == 1000

    def test_a_batch_is_seen_whole_or_not_at_all(self, kv: KeyValue) -> None:
        fill(kv, b"a", b"z")
        stop = threading.Event()
        torn: list[dict[bytes, bytes]] = []

        def look() -> None:
            while not stop.is_set():
                rows = dict(kv.find())
                if rows[b"a"] != rows[b"z"] and rows[b"a"] != b"a!":
                    torn.append(rows)

        reader = threading.Thread(target=look)
        reader.start()
        try:
            for number in range(200):
                batch = Batch()
                batch.set(b"a", b"%d" % number)
                batch.set(b"z", b"%d" % number)
                kv.commit(batch, durable=False)
        finally:
            stop.set()
            reader.join()
        assert torn == []

    def test_threads_may_write_at_the_same_time(self, kv: KeyValue) -> None:
        def write(worker: int) -> None:
            for number in range(50):
                batch = Batch()
                batch.set(b"%d-%03d" % (worker, number), b"1")
                batch.set(b"shared-%03d" % number, b"1")
                kv.commit(batch, durable=False)

        workers = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
        for thread in workers:
            thread.start()
        for thread in workers:
            thread.join()
        assert len(keys(kv)) == 250

    def test_wipe_deletes_every_row(self, kv: KeyValue) -> None:
        fill(kv, *(b"%05d" % number for number in range(12_000)))
        kv.wipe()
        assert list(kv.find()) == []
        fill(kv, b"again")
        assert keys(kv) == [b"again"]

    def test_many_rows_come_in_order_from_any_start(self, kv: KeyValue) -> None:
        names = [b"%05d" % (number * 7919 % 20_011) for number in range(20_011)]
        for begin in range(0, len(names), 1500):
            fill(kv, *names[begin : begin + 1500])
        assert keys(kv) == sorted(names)
        assert [key for key, _ in islice(kv.find(b"10000"), 3)] == [b"10000", b"10001", b"10002"]
        assert keys(kv, b"19999", b"20002") == [b"19999", b"20000", b"20001"]
