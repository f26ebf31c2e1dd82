"""Full text in PostgreSQL: what SQLite finds and what it does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.errors import Invalid
from peatkeep.index.fulltext import Document, FullText, Texts
from peatkeep.index.postgrestexts import PostgresTexts
from peatkeep.index.textkeeper import TextKeeper, texts_beside
from peatkeep.search.endpoint import answer_query
from tests.index.corpus import World
from tests.index.make import blob, claim, file, key, part, permanode
from tests.sorted.postgres import GROUP, Database, postgres, postgres_server

__all__ = ["postgres", "postgres_server"]
pytestmark = GROUP

GUARD_S = 60.0
DOCUMENTS = {
    Ref.of(name.encode()): document
    for name, document in {
        "fox": Document("A quick fox", "x_y.txt", "Zürich, İzmir e\u0301te\u0301"),
        "dog": Document("lazy", "fox.quick", "the dog's 3,14 e-mail: a@b.org http://x.org/q?w=1"),
        "two": Document("one", "two", "three"),
        "long": Document(body="word " * 20_000 + "the needle " + "abcdefghijklmnopqrstuvwxyz"),
        "odd": Document(body="nul\0 half \ud800 100% \\ ' \" 東京 ПРИВЕТ straße"),
    }.items()
}


@pytest.fixture
def texts(postgres: Database) -> Iterator[Texts]:
    texts = PostgresTexts(postgres.args)
    yield texts
    texts.close()


def test_it_finds_what_sqlite_finds(texts: Texts, tmp_path: Path) -> None:
    lite = FullText(tmp_path / "texts")
    known = {ref: doc for ref, doc in DOCUMENTS.items() if "\ud800" not in doc.body}
    for each in (texts, lite):
        assert each.put(known.items()) == set(known)
    for words in (
        *("quick", "QUICK fox", "fox quick", "quick zurich", "zur*", "zur", "ete", "x y txt"),
        *("dog s", "dogs", "3 14", "e mail", "a@b.org", "http://x.org", "q?w", "one two", "two"),
        *("needle abc*", "word the needle", "abcdefghijklmnopqr", "abcdefghijklmnopqr*", "_"),
        *("needle word", "' | quick", "fox:*", 'fox" OR "lazy', "izmir", "a quick fox x"),
    ):
        assert set(texts.find(words)) == set(lite.find(words)), words
    for words in ("!?", ""):
        with pytest.raises(Invalid):
            texts.find(words)
    lite.close()


def test_what_a_database_takes_as_no_text_is_kept_all_the_same(texts: Texts) -> None:
    texts.put(DOCUMENTS.items())
    odd = Ref.of(b"odd")
    for words in ("nul", "half 100", "東京", "привет", "Straße"):
        assert texts.find(words) == [odd], words
    texts.put([(odd, Document(body=" ".join(f"{n:012d}" for n in range(80_000))))])
    assert texts.find("000000000007 000000000008") == [odd]


def test_documents_are_replaced_and_taken_away(texts: Texts, postgres: Database) -> None:
    ref = Ref.of(b"fox")
    assert texts.put([(ref, Document("one"))]) == {ref}
    assert texts.put([(ref, Document("one"))]) == set()
    assert texts.put([(ref, Document("two"))]) == {ref}
    assert (texts.find("one"), texts.find("two")) == ([], [ref])
    again = texts_beside(postgres.args)
    assert again is not None
    assert again.has(ref)
    again.close()
    assert texts.put([(ref, None)]) == {ref}
    assert texts.put([(ref, None)]) == set()
    assert not texts.has(ref)


def test_snippets_show_what_was_found_and_some_words_around_it(texts: Texts) -> None:
    texts.put(DOCUMENTS.items())
    fox, long = Ref.of(b"fox"), Ref.of(b"long")
    assert texts.snippet(fox, ["slow", "QUICK fox"]) == ["A ", "quick fox", ""]
    assert texts.snippet(fox, ["ZURI*"]) == ["", "Zürich", ", İzmir e\u0301te\u0301"]
    before, found, behind = texts.snippet(long, ["the needle"])
    assert (before, found) == ("…" + "word " * 8, "the needle")
    assert behind == " abcdefghijklmnopqrstuvwxyz"
    assert texts.snippet(fox, ["slow"]) == texts.snippet(Ref.of(b"?"), ["fox"]) == []


def test_a_search_finds_texts_that_are_kept_there(postgres: Database) -> None:
    world = World()
    chunk, node = blob(b"deep in the bog lies a hoard"), permanode("hoard")
    content = file([part(chunk)], "bog.txt")
    world.add([key(), chunk, content, node, claim(node[0], "camliContent", str(content[0]))])
    keeper = TextKeeper(world.index, PostgresTexts(postgres.args), lull_s=0)
    keeper.start()
    try:
        assert keeper.wait(GUARD_S)
        body = b'{"expression": "text:\\"a hoard\\"", "snippets": true}'
        answer = answer_query(world.index, body, 0).body
        assert answer["blobs"] == [{"blob": node[0]}]
        assert answer["snippets"] == {node[0]: ["deep in the bog lies ", "a hoard", ""]}
    finally:
        keeper.stop()


def test_rows_that_lie_nowhere_keep_no_texts() -> None:
    assert texts_beside({"type": "memory"}) is None
    assert texts_beside({"type": "sql", "url": "sqlite:////x"}) is None
