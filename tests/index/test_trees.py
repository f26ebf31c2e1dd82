"""Sizes of directories with all that is below them, in any order of arrival."""

import random

import pytest

from peatkeep.blob import Ref
from peatkeep.index import trees
from peatkeep.index.describe import DescribeRequest, describe
from peatkeep.index.trees import BIG, GROWN, MAX_HEIGHT, Tree
from tests.index.corpus import Blob, World, shuffled
from tests.index.make import blob, directory, file, part, schema, static_set
from tests.search.asking import ask, refs_of


def folder(name: str, *members: Blob) -> list[Blob]:
    """A static-set and a directory, which is the last one."""
    members_set = static_set([member[0] for member in members])
    return [members_set, directory(members_set[0], name)]


def some_tree() -> list[Blob]:
    """root: a (200 bytes) and b; b: a again, and c (3 bytes); a link in each."""
    long, short = blob(b"x" * 200), blob(b"abc")
    a, c = file([part(long)], "a"), file([part(short)], "c")
    link = schema({"camliType": "symlink", "fileName": "l", "symlinkTarget": "a"})
    inner = folder("b", a, c, link)
    return [long, short, a, c, link, *inner, *folder("root", a, inner[-1], link)]


def sizes(world: World) -> dict[Ref, Tree | None]:
    world.index.settle_sizes()
    return {ref: world.index.view.tree(ref) for ref in world.index.view.biggest()}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_comes_first_the_sizes_are_the_same(seed: int) -> None:
    blobs = some_tree()
    world, chance = World(), random.Random(seed)
    for each in shuffled(blobs, seed):
        world.add([each])
        if chance.random() < 0.5:
            world.index.settle_sizes()
    root, inner = blobs[-1][0], blobs[-3][0]
    assert sizes(world) == {root: Tree(403, 3, 1, 1), inner: Tree(203, 2, 0, 0)}
    assert list(sizes(world)) == [root, inner]
    rows = world.search_rows()
    world.index.reindex()
    assert world.search_rows() == rows


def test_blobs_that_come_twice_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = some_tree()
    world, once = World(), World()
    once.add(blobs)
    world.add(blobs)
    world.index.settle_sizes()
    # As a bulk does that meets what has arrived meanwhile.
    page = dict(blobs)
    outcomes = world.index._extract_all(page.items(), world.index._source(page))
    monkeypatch.setattr(trees, "_PAGE_ROWS", 1)
    world.index._apply(outcomes, page)
    assert world.search_rows() == once.search_rows()


def test_a_directory_counts_what_is_there_and_marks_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "PAGE_SIZE", 1)
    blobs = some_tree()
    world = World()
    world.add(blobs[2:])  # without the chunks no file is known
    assert set(sizes(world).values()) == {Tree(0, 0, 1, 1), Tree(0, 0, 0, 0)}
    world.add(blobs[:2])
    assert sizes(world)[blobs[-1][0]] == Tree(403, 3, 1, 1)
    assert next(world.kv.prefixed(GROWN), None) is None


def test_a_tree_that_doubles_with_each_level_is_counted_up_to_a_height() -> None:
    content = blob(b"x")
    leaf = file([part(content)], "x")
    blobs = [content, leaf]
    below = [leaf]
    for level in range(MAX_HEIGHT + 3):
        twins = [folder(f"{level}{twin}", *below) for twin in "ab"]
        blobs += [made for twin in twins for made in twin]
        below = [twin[-1] for twin in twins]
    world = World()
    world.add(blobs, 500)
    found = sizes(world)
    assert max(tree.height for tree in found.values() if tree) == MAX_HEIGHT
    assert max(tree.size_bytes for tree in found.values() if tree) == 2**MAX_HEIGHT
    assert found[below[0][0]] == Tree(0, 0, 0, MAX_HEIGHT)


def test_rows_that_go_round_in_a_circle_end() -> None:
    blobs = some_tree()
    world = World()
    world.add(blobs)
    root, inner = blobs[-1][0], blobs[-3][0]
    world.index.settle_sizes()
    for key in (f"dirchild|{inner}|{root}", f"pk|parent|{root}|{inner}", f"pk|grown|{inner}"):
        world.kv.set(key.encode(), b"")
    assert set(sizes(world)) == {root, inner}


def test_what_is_very_large_sorts_first() -> None:
    assert trees._big_key("sha224-1", Tree(10**30)) < trees._big_key("sha224-0", Tree(10**19))
    assert trees._big_key("sha224-1", Tree()).startswith(BIG + b"99999")


def test_the_biggest_directories_come_first_and_are_described() -> None:
    world, blobs = World(), some_tree()
    world.add(blobs)
    root, inner = blobs[-1][0], blobs[-3][0]
    about = {"constraint": {"dir": {}}, "sort": "-size", "describe": {"depth": 1, "sizes": True}}
    answer = ask(about, world)
    assert refs_of(answer) == [root, inner]
    told = answer.body["description"]["meta"][root]["tree"]
    assert told == {"size": 403, "files": 3, "dirs": 1}
    request = DescribeRequest((blobs[2][0], inner), paths=True)
    meta = describe(world.index.view, request)["meta"]
    paths = [entry["path"] for entry in meta.values() if "path" in entry]
    assert {path for path in paths if path.endswith("b")} == {"root/b"}
    assert {path for path in paths if path.endswith("a")} <= {"root/a", "root/b/a"}
    named = {"dir": {"fileName": {"equals": "b"}}}
    assert refs_of(ask({"constraint": named, "sort": "-size"}, world)) == [inner]


def test_only_directories_are_sorted_by_size() -> None:
    assert ask({"expression": "tag:x", "sort": "-size"}, World()).status == 500
