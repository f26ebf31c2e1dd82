"""Full text: words and phrases, texts of files, a keeper that follows an index."""

import json
import math
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.errors import Invalid
from peatkeep.index.filetext import TextReader
from peatkeep.index.fulltext import Document, FullText
from peatkeep.index.textkeeper import TextKeeper
from peatkeep.search.endpoint import answer_query
from tests.index.corpus import World
from tests.index.make import blob, claim, delete, file, key, part, permanode
from tests.waiting import GUARD_S

A, B = Ref.of(b"a"), Ref.of(b"b")


@pytest.fixture
def texts(tmp_path: Path) -> Iterator[FullText]:
    texts = FullText(tmp_path / "texts")
    yield texts
    texts.close()


def test_words_and_phrases_are_found(texts: FullText) -> None:
    texts.put([(A, Document("A quick fox", "x.txt", "Zürich")), (B, Document(body="fox, quick"))])
    assert texts.find("quick FOX") == [A]
    assert set(texts.find("fox")) == {A, B}
    assert texts.find("zuri*") == [A]
    assert texts.find("zuri") == []
    assert texts.find('x" OR "quick') == []
    with pytest.raises(Invalid):
        texts.find("!?")


def test_a_document_is_replaced_and_taken_away(texts: FullText) -> None:
    texts.put([(A, Document("one"))])
    texts.put([(A, Document("two"))])
    assert (texts.find("one"), texts.find("two")) == ([], [A])
    texts.put([(A, None)])
    assert texts.find("two") == []
    assert not texts.has(A)


def test_a_snippet_shows_what_was_found(texts: FullText) -> None:
    texts.put([(A, Document(body="some words before the quick fox and some behind"))])
    parts = texts.snippet(A, ["quick fox"])
    assert parts[1::2] == ["quick fox"]
    assert texts.snippet(A, ["slow"]) == texts.snippet(B, ["fox"]) == []


@pytest.mark.parametrize("content", [b"no database" * 1000, b""])
def test_a_damaged_file_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "texts").write_bytes(content)
    texts = FullText(tmp_path / "texts")
    texts.put([(A, Document("one"))])
    assert texts.find("one") == [A]
    texts.close()


def test_a_file_of_another_version_is_made_anew(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "texts")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    FullText(tmp_path / "texts").close()


# -- files ----------------------------------------------------------------------------------------


def pdf(text: str) -> bytes:
    """A document of one page."""
    stream = f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(out)
    head = b"xref\n0 6\n0000000000 65535 f \n"
    return out + head + table + b"trailer\n<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % start


@pytest.mark.parametrize(
    ("content", "mime", "wanted"),
    [
        (b"caf\xc3\xa9", "text/plain", "café"),
        (b"caf\xe9", "", ""),
        (b"a\0b", "", ""),
        (b"plain", "", "plain"),
        ("ö".encode("utf-16"), "text/plain; charset=utf-16le", "ö"),
        (b"no words", "image/png", ""),
        (pdf("Peat and bog"), "application/pdf", "Peat and bog"),
        (b"%PDF-1.4 broken", "application/pdf", ""),
    ],
    ids=["text", "latin", "nul", "unknown", "utf-16", "picture", "pdf", "broken pdf"],
)
def test_the_text_of_a_file(content: bytes, mime: str, wanted: str) -> None:
    world = World()
    chunk = blob(content)
    made = file([part(chunk)])
    world.add([chunk, made])
    assert TextReader().text_of(world.index.blobs, made[0], mime, len(content)).strip() == wanted


# -- following an index ---------------------------------------------------------------------------


def found(world: World, expression: str, **members: object) -> list[str]:
    body = json.dumps({"expression": expression, **members}).encode()
    answer = answer_query(world.index, body, 0)
    assert answer.status == 200, answer.body
    return [entry["blob"] for entry in answer.body["blobs"] or ()]


def test_a_keeper_finds_what_was_there_and_what_comes(tmp_path: Path) -> None:
    world = World()
    chunk, node = blob(b"deep in the bog lies a hoard"), permanode("hoard")
    content = file([part(chunk)], "bog.txt")
    about = claim(node[0], "camliContent", str(content[0]))
    world.add([key(), chunk, content, node, about])
    keeper = TextKeeper(world.index, FullText(tmp_path / "texts"), lull_s=0)
    keeper.start()
    try:
        assert keeper.wait(GUARD_S)
        assert found(world, 'text:"a hoard"') == [node[0]]
        assert found(world, "text:bog -text:hoard") == []
        told = threading.Event()
        world.index.watch(lambda _: told.set() if found(world, "text:age") else None)
        world.add([claim(node[0], "title", "Iron Age", day=2)])
        assert keeper.wait(GUARD_S)
        assert found(world, 'text:"iron age" text:bog') == [node[0]]
        body = b'{"expression": "text:hoard", "snippets": true}'
        (parts,) = answer_query(world.index, body, 0).body["snippets"].values()
        assert parts[1] == "hoard"
        assert told.wait(GUARD_S)
        world.add([delete(node[0], day=3)])
        assert keeper.wait(GUARD_S)
        assert found(world, "text:hoard") == []
    finally:
        keeper.stop()
    body = b'{"expression": "text:hoard"}'
    assert answer_query(world.index, body, 0).status == 501


@pytest.mark.parametrize("expression", ["text:", 'text:"!"'])
def test_a_text_without_words_is_refused(expression: str) -> None:
    body = json.dumps({"expression": expression}).encode()
    assert answer_query(World().index, body, 0).status == 500


@pytest.mark.parametrize(
    ("lull_s", "given_out_at"), [(3600, -math.inf), (0, math.inf)], ids=["indexed", "given out"]
)
def test_no_text_is_read_before_a_lull(tmp_path: Path, lull_s: float, given_out_at: float) -> None:
    world, used_at = World(), [-math.inf]
    texts = FullText(tmp_path / "texts")
    keeper = TextKeeper(world.index, texts, lambda: used_at[0], lull_s=lull_s, patience_s=3600)
    keeper.start()
    try:
        assert keeper.wait(GUARD_S)
        used_at[0] = given_out_at
        chunk = blob(b"deep in the bog lies a hoard")
        world.add([chunk, file([part(chunk)], "bog.txt")])
        assert not keeper.wait(0)
        assert texts.find("hoard") == []
    finally:
        keeper.stop()


def test_an_index_that_never_rests_has_texts_all_the_same(tmp_path: Path) -> None:
    world = World()
    keeper = TextKeeper(world.index, FullText(tmp_path / "texts"), lull_s=3600, patience_s=0)
    keeper.start()
    try:
        chunk = blob(b"deep in the bog lies a hoard")
        world.add([chunk, file([part(chunk)], "bog.txt")])
        assert keeper.wait(GUARD_S)
        assert len(keeper.texts.find("hoard")) == 1
    finally:
        keeper.stop()


def test_large_texts_are_written_one_by_one(tmp_path: Path) -> None:
    world, blobs = World(), [key()]
    for number in range(4):
        chunk = blob(b"%d word " % number * 100_000)
        blobs += [chunk, file([part(chunk)], f"{number}.txt")]
    world.add(blobs)
    sizes: list[int] = []

    class Watched(FullText):
        def put(self, documents: Iterable[tuple[Ref, Document | None]]) -> set[Ref]:
            page = list(documents)
            sizes.append(len(page))
            return super().put(page)

    keeper = TextKeeper(world.index, Watched(tmp_path / "texts"))
    keeper.start()
    try:
        assert keeper.wait(GUARD_S)
        assert sizes == [2, 2]
        assert len(keeper.texts.find("word")) == 4
    finally:
        keeper.stop()


def test_a_reader_that_is_stopped_gives_up_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = blob(pdf("Peat"))
    made = file([part(chunk)])
    world = World()
    world.add([chunk, made])
    reader, begun = TextReader(), threading.Event()
    start = subprocess.Popen

    def endless(*_: object, **streams: int) -> "subprocess.Popen[bytes]":
        process = start([sys.executable, "-c", "import time; time.sleep(600)"], **streams)
        begun.set()
        return process

    monkeypatch.setattr(subprocess, "Popen", endless)
    read: list[str] = []
    ask = (world.index.blobs, made[0], "application/pdf", len(chunk[1]))
    thread = threading.Thread(target=lambda: read.append(reader.text_of(*ask)))
    thread.start()
    assert begun.wait(GUARD_S)
    reader.stop()
    thread.join(GUARD_S)
    assert read == [""]
    assert reader.text_of(*ask) == ""


def test_of_a_document_that_takes_too_long_the_first_pages_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chunk = blob(pdf("Peat"))
    made = file([part(chunk)])
    world = World()
    world.add([chunk, made])
    start = subprocess.Popen
    program = "import os; os.write(1, b'page one'); os.kill(os.getpid(), 24)"  # SIGXCPU

    def limited(*_: object, **streams: int) -> "subprocess.Popen[bytes]":
        return start([sys.executable, "-c", program], **streams)

    monkeypatch.setattr(subprocess, "Popen", limited)
    ask = (world.index.blobs, made[0], "application/pdf", len(chunk[1]))
    assert TextReader().text_of(*ask) == "page one"
