"""The rows that searches read: in step with the others, whatever happens in between."""

from collections.abc import Iterator
from typing import Any

import pytest

from peatkeep.blob import Ref
from peatkeep.errors import Unavailable
from peatkeep.index import extract as extract_module
from peatkeep.index import index as index_module
from peatkeep.index import sweep
from peatkeep.index.corpus import EVERYTHING, Corpus
from peatkeep.index.derived import (
    DERIVED_KEY,
    derived_rows,
    has_prefix_key,
    mirrored,
    read_tail,
    tail,
)
from peatkeep.index.settle import Settler
from peatkeep.index.snapshot import decode, encode, take
from peatkeep.index.workers import Workers, _Process
from peatkeep.sorted.kv import MAX_KEY_SIZE
from tests.index import make
from tests.index.corpus import Row, World, corpus, difference, shuffled


def usual() -> list[Row]:
    world = World()
    world.add(corpus(), batch=1000)
    return world.search_rows()


@pytest.mark.parametrize("seed", range(3))
def test_settling_after_every_few_blobs_gives_the_same_rows(seed: int) -> None:
    world = World()
    blobs = shuffled(corpus(), 20 + seed)
    for start in range(0, len(blobs), 5):
        world.add(blobs[start : start + 5], batch=5)
        world.index.settle()
    assert difference(world.search_rows(), usual()) == []


def test_an_index_without_these_rows_gets_them_when_opened() -> None:
    world = World()
    world.add(corpus(), batch=1000)
    for key, _ in world.search_rows():
        world.kv.delete(key)
    world.kv.delete(DERIVED_KEY)
    assert difference(world.restarted().search_rows(), usual()) == []


@pytest.mark.parametrize("pages", [0, 1, 4])
@pytest.mark.parametrize("alone", [1_000_000, 0])
def test_a_reindex_that_ends_before_all_snapshots_are_taken_is_completed(
    monkeypatch: pytest.MonkeyPatch, alone: int, pages: int
) -> None:
    world = World()
    world.add(corpus(), batch=1000)
    left = iter(range(pages))
    step = "sweep_page" if alone else "commit_swept"
    taken = getattr(Settler, step)

    def torn(*arguments: object) -> object:
        if next(left, None) is None:
            raise Unavailable("take", "snapshots", "the process is about to end")
        return taken(*arguments)

    monkeypatch.setattr(sweep, "PAGE_PERMANODES", 5)
    monkeypatch.setattr(index_module, "PAGES_ALONE", alone)
    monkeypatch.setattr(Settler, step, torn)
    with pytest.raises(Unavailable):
        world.index.reindex()
    monkeypatch.setattr(Settler, step, taken)
    again = world.restarted()
    assert again.index.is_whole
    assert difference(again.search_rows(), usual()) == []


@pytest.mark.parametrize("pages", [0, 1, 4])
def test_what_arrives_while_snapshots_are_taken_elsewhere_is_in_them(
    monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    world = World()
    world.add(corpus(), batch=1000)
    first, *_, last = Corpus(world.index.view).of_type("permanode")
    late = [make.claim(permanode, "title", "came late") for permanode in (first, last)]
    left = iter(range(pages))
    taken = Workers.snapshots

    def interrupted(*arguments: Any) -> Iterator[object]:
        for found in taken(*arguments):
            if next(left, None) is None:
                world.add(late)
                world.index.settle()
            yield found

    monkeypatch.setattr(sweep, "PAGE_PERMANODES", 5)
    monkeypatch.setattr(index_module, "PAGES_ALONE", 0)
    monkeypatch.setattr(Workers, "snapshots", interrupted)
    world.index.reindex()
    expected = World()
    expected.add([*corpus(), *late], batch=1000)
    assert difference(world.search_rows(), expected.search_rows()) == []


def test_what_processes_that_died_leave_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.add(corpus(), batch=1000)
    monkeypatch.setattr(index_module, "PAGES_ALONE", 0)
    monkeypatch.setattr(_Process, "ask", lambda *_: None)
    world.index.reindex()
    assert difference(world.search_rows(), usual()) == []


def test_other_owners_have_other_snapshots() -> None:
    world = World()
    world.add(corpus(), batch=1000)
    world.index.settle()
    stranger = World(world.kv, world.blobs, owner_key_ids=("0" * 16,))
    stranger.index.settle()
    view = stranger.index.view
    for permanode in Corpus(view).of_type("permanode"):
        assert Corpus(view).snapshot(permanode) == take(view, permanode)
        assert take(view, permanode).attributes == {}


def test_a_mark_that_a_crash_left_does_no_harm() -> None:
    world = World()
    world.add(corpus(), batch=1000)
    rows = world.search_rows()
    for permanode in Corpus(world.index.view).of_type("permanode"):
        world.kv.set(b"pk|dirty|" + permanode.encode(), b"")
    assert difference(world.restarted().search_rows(), rows) == []


def test_attributes_too_long_for_a_row_are_found() -> None:
    permanode = make.permanode("long")
    values = [f"{number:04d}" * 50 for number in range(400)]
    claims = [make.claim(permanode[0], f"attribute{n}", value) for n, value in enumerate(values)]
    world = World()
    world.add([make.key(), permanode, *claims], batch=500)
    world.index.settle()
    snapshot = Corpus(world.index.view).snapshot(permanode[0])
    assert sorted(value for [value] in snapshot.attributes.values()) == values


def test_a_value_too_long_for_a_key_is_found_by_its_digest() -> None:
    permanode = make.permanode("long value")
    value = "über " * 500
    world = World()
    world.add([make.key(), permanode, make.claim(permanode[0], "note", value)], batch=9)
    found = Corpus(world.index.view)
    assert list(found.with_value("note", value)) == [permanode[0]]
    assert list(found.values("note", "x")) == [(None, permanode[0])]
    world.index.settle()
    ends = [found.newest_with("note", value, EVERYTHING), found.beginning_now("note", "x")]
    assert [[read_tail(end)[1] for end in walk or ()] for walk in ends] == [[permanode[0]]] * 2
    assert len(has_prefix_key("a" * 1000, value)) < 500


def test_times_sort_newest_first_and_refs_descending() -> None:
    refs = [Ref("sha1-" + "0" * 40), Ref("sha224-" + "0" * 56), Ref("sha224-" + "f" * 56)]
    times_ns = [-62_167_219_200 * 10**9, -1, 0, 1, 253_402_300_799 * 10**9]
    pairs = [(time_ns, ref) for time_ns in times_ns for ref in refs]
    keys = [tail(*pair) for pair in pairs]
    assert sorted(keys) == keys[::-1]
    assert [read_tail(key) for key in keys] == pairs
    assert all(mirrored(mirrored(ref)) == ref for ref in refs)


def test_snapshots_survive_their_row() -> None:
    world = World()
    world.add(corpus(), batch=1000)
    for permanode in Corpus(world.index.view).of_type("permanode"):
        snapshot = take(world.index.view, permanode)
        assert decode(encode(snapshot)) == snapshot


def test_a_key_over_the_limit_is_left_out() -> None:
    ref = "foo-" + "a" * 256
    claim = f"claim|{ref}|K|D|C".encode(), f"set-attribute|{'a' * 200}|{'b' * 300}|S".encode()
    of_ref = [key for key, _ in derived_rows(claim) if ref.encode() in key]
    assert of_ref[0] == f"pk|dirty|{ref}".encode()
    assert f"pk|has|{'a' * 200}|{'b' * 300}|{ref}".encode() not in of_ref
    assert all(len(key) <= MAX_KEY_SIZE for key, _ in derived_rows(claim))


def test_claims_in_their_usual_form_have_the_rows_of_any_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node, other = make.permanode("p"), make.permanode("q")
    values = ["", "x", "two words", "Größe 日本", "a|b%c+d", other[0], "1234-56", "w " * 300]
    values += [letter * size for letter in "xé" for size in (40, 100, 101, 299, 300, 301, 800)]
    attributes = ["title", "tag", "camliMember", "camliPath:a b", "é" * 16, "é" * 17, "y" * 201]
    blobs = [make.key(), node, other]
    for kind in ("set-attribute", "add-attribute", "del-attribute"):
        blobs += [
            make.claim(node[0], name, value, 1, kind) for name in attributes for value in values
        ]
    quick, plain = World(), World()
    assert all(extract_module.read_usual(data) for _, data in blobs[1:])
    quick.add(blobs, batch=100)
    monkeypatch.setattr(extract_module, "read_usual", lambda _: None)
    plain.add(blobs, batch=100)
    assert quick.rows() == plain.rows()
    assert quick.own_rows() == plain.own_rows()
    assert difference(quick.search_rows(), plain.search_rows()) == []
