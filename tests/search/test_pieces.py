"""Pieces of texts: found by rows of words exactly as by a look at every value."""

import random

import pytest

from peatkeep.index.corpus import Corpus
from peatkeep.index.derived import read_tail
from peatkeep.index.words import MOST_WORDS, PIECE, ends_of, folded, piece_of, words_of
from tests.index import make
from tests.index.corpus import World
from tests.search.asking import ask, refs_of

VALUES = [
    "Trip to Ljubljana 2014",
    "STRASSE straße ﬁnal İstanbul",
    "旅行の写真と東京タワーの夜景と横浜の中華街で食べた晩ごはんの記録",
    "under_score and-dash a b cd",
    "2014-05-03T10:20:30Z",
    "trip-2014",
    "12.5",
    "sha224-0fb2df3a3d16ee88c103af434e64cf283d486346056f73700cb0bf86",
    "sha1-0fb2df3a3d16ee88c103af434e64cf283d486346",
    "x" * 50 + "needle" + "y" * 90,
    " ".join(f"word{number}" for number in range(MOST_WORDS + 50)),
    "50% off | 100%",
    "",
]


def _world() -> World:
    world = World()
    world.add([make.key()])
    for number, value in enumerate(VALUES):
        permanode = make.permanode(f"p{number}")
        world.add([permanode, make.claim(permanode[0], "title", value)])
    return world


@pytest.fixture(scope="module")
def world() -> World:
    return _world()


def _needles() -> list[str]:
    dice = random.Random(7)
    needles = ["trip", "TRIP", "2014", "東京タワー", "ss", "ß", "f3a3d16", "224-0fb", ":20", "T10"]
    needles += ["xneedley", "needle", "d199 w", "word249", "% o", "|", "no such thing", "score an"]
    for value in VALUES:
        for _ in range(4 if value else 0):
            start = dice.randrange(len(value))
            needles.append(value[start : start + dice.randrange(1, 40)])
    return needles


@pytest.mark.parametrize("needle", _needles())
@pytest.mark.parametrize("fold", [False, True])
def test_a_piece_finds_what_a_look_at_every_value_finds(
    needle: str, fold: bool, world: World
) -> None:
    text = {"contains": needle, "caseInsensitive": fold}
    test = {"attr": "title", "valueMatches": text}
    answer = ask({"constraint": {"permanode": test}, "sort": "blobref", "limit": -1}, world)
    matching = [
        make.permanode(f"p{number}")[0]
        for number, value in enumerate(VALUES)
        if (folded(needle) in folded(value) if fold else needle in value)
    ]
    assert refs_of(answer) == sorted(matching)


def test_rows_of_a_piece_hold_all_that_have_it(world: World) -> None:
    world.index.settle()
    ends = Corpus(world.index.view).containing("title", "jubl")
    assert ends is not None
    found = {read_tail(end)[1] for end in ends if end is not None}
    many_words = make.permanode(f"p{VALUES.index(VALUES[10])}")[0]
    assert found == {make.permanode("p0")[0], many_words}


def test_a_value_that_was_taken_back_is_not_found() -> None:
    world = _world()
    world.add([make.claim(make.permanode("p0")[0], "title", "elsewhere", day=5)])
    test = {"attr": "title", "valueMatches": {"contains": "ljubl"}}
    assert refs_of(ask({"constraint": {"permanode": test}}, world)) == []


def test_every_piece_of_a_word_lies_at_the_beginning_of_an_end() -> None:
    dice = random.Random(3)
    for size in (3, 5, 2 * PIECE, 2 * PIECE + 1, 200):
        word = "".join(dice.choices("abcdefgh", k=size))
        ends = [end for part in words_of(word) or [] for end in ends_of(part)]
        for start in range(size - 2):
            for end in range(start + 3, min(start + 60, size) + 1):
                piece = piece_of(word[start:end])
                assert any(found.startswith(piece) for found in ends)
