"""Files by what they are and how their names begin, and folders that lend pictures a place."""

import json

import pytest

from peatkeep.search.endpoint import answer_query
from tests.index.clips import flac, mp4, vorbis, webm
from tests.index.corpus import Blob, World
from tests.index.make import blob, claim, file, key, part, permanode
from tests.search.asking import ask, refs_of

FILES = {
    "parade.mp4": mp4(),
    "dance.webm": webm(),
    "reel.flac": flac(),
    "jig.ogg": vorbis(),
    "parade.png": b"\x89PNG\r\n\x1a\n" + bytes(20),
    "paradise" + "e" * 400 + ".txt": b"text",
}


def with_permanode(name: str, content: bytes) -> list[Blob]:
    """The chunk, the file, the permanode and the claim that ties them."""
    chunk, node = blob(content), permanode(name)
    made = file([part(chunk)], name)
    return [chunk, made, node, claim(node[0], "camliContent", str(made[0]))]


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.add([key()])
    for name, content in FILES.items():
        world.add(with_permanode(name, content))
    return world


def names(world: World, expression: str) -> set[str]:
    body = {"expression": expression, "describe": {"depth": 2}}
    meta = ask(body, world).body["description"]["meta"]
    return {entry["file"]["fileName"][:12] for entry in meta.values() if "file" in entry}


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("is:video", {"parade.mp4", "dance.webm"}),
        ("is:audio", {"reel.flac", "jig.ogg"}),
        ("is:image", {"parade.png"}),
        ("format:mp4", {"parade.mp4"}),
        ("filename:parad*", {"parade.mp4", "parade.png", "paradiseeeee"}),
        (f"filename:paradise{'e' * 350}*", {"paradiseeeee"}),
        ("filename:reel* or is:video", {"reel.flac", "parade.mp4", "dance.webm"}),
    ],
)
def test_files_are_found_by_kind_and_name(world: World, expression: str, wanted: set[str]) -> None:
    assert names(world, expression) == wanted


def test_kinds_and_names_lead_to_few_candidates(world: World) -> None:
    for expression, label in (("is:video", "of kind video/"), ("filename:par*", "named par")):
        body = json.dumps({"expression": expression, "explain": True}).encode()
        sources = answer_query(world.index, body, 0).body["explain"]["sources"]
        assert any(label in source for source in sources)


def test_the_length_of_a_film_is_found(world: World) -> None:
    tag = {"mediaTag": {"tag": "durationms", "int": {"min": 2000, "max": 2600}}}
    assert len(refs_of(ask({"constraint": {"file": tag}}, world))) == 3
    assert len(refs_of(ask({"constraint": {"file": {"width": {"equals": 640}}}}, world))) == 1
