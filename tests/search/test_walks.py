"""Rows in the order of the answer lead to the same results as a look at every permanode."""

import random

import pytest

from tests.index import make
from tests.index.corpus import World
from tests.search.asking import ask, refs_of

Json = dict[str, object]

WORDS = ["hermitage", "Ermita", "hem", "face2face", "Übersee", "dead", "2014", "permit"]
TAGS = ["a", "b", "A", "sha1-" + "f" * 40, "x" * 400, "x" * 401, "%|+ ", ""]
DAYS = 5


def attr(name: str, **test: object) -> Json:
    return {"permanode": {"attr": name, **test}}


def logical(op: str, a: Json, b: Json | None = None) -> Json:
    return {"logical": {"op": op, "a": a} | ({"b": b} if b else {})}


@pytest.fixture(scope="module")
def world() -> World:
    made = World()
    made.add([make.key()])
    dice = random.Random(11)
    for number in range(150):
        permanode = make.permanode(f"w{number}")
        title = " ".join(dice.choices(WORDS, k=3))
        claims = [
            make.claim(permanode[0], "title", title, day=dice.randrange(1, DAYS)),
            make.claim(permanode[0], "tag", dice.choice(TAGS), day=dice.randrange(1, DAYS)),
        ]
        if number % 10 == 0:  # too long for one row
            claims += [make.claim(permanode[0], f"n{n}", "y" * 9_000, day=1) for n in range(8)]
        if number % 10 == 5:  # too many values for rows of their own
            claims += [
                make.claim(permanode[0], "many", f"v{n}", day=1, kind="add-attribute")
                for n in range(1100 if number == 5 else 20)
            ]
        if number % 7 == 0:
            claims.append(make.delete(dice.choice([permanode[0], claims[0][0]])))
        made.add([permanode, *claims], batch=2000)
        if number % 40 == 0:
            made.index.settle()
    return made


TESTS: dict[str, Json] = {
    "value": attr("tag", value="a"),
    "ref": attr("tag", value=TAGS[3]),
    "long": attr("tag", value=TAGS[5]),
    "escaped": attr("tag", value=TAGS[6]),
    "equals": attr("tag", valueMatches={"equals": "b"}),
    "any case": attr("tag", valueMatches={"equals": "a", "caseInsensitive": True}),
    "many": attr("many", value="v7"),
    "number": attr("n3", valueMatches={"contains": "yyyy"}),
    "piece": attr("title", valueMatches={"contains": "ermit", "caseInsensitive": True}),
    "piece of refs": attr("tag", valueMatches={"contains": "fff"}),
    "hex": attr("title", valueMatches={"contains": "dead"}),
    "digits": attr("title", valueMatches={"contains": "2014"}),
    "beginning": attr("title", valueMatches={"hasPrefix": "her"}),
    "beginning of refs": attr("tag", valueMatches={"hasPrefix": "sha"}),
    "beginning of long": attr("tag", valueMatches={"hasPrefix": "xx"}),
    "folded beginning": attr("title", valueMatches={"hasPrefix": "üBER", "caseInsensitive": True}),
    "end": attr("title", valueMatches={"hasSuffix": "mit"}),
    "nothing": attr("tag", value="no such tag"),
    "days": {"permanode": {"time": {"after": "2017-07-16T00:00:00Z"}}},
    "past": attr("tag", value="a", at="2017-07-16T12:00:00Z"),
}
TESTS |= {
    "both": logical("and", TESTS["value"], TESTS["piece"]),
    "three": logical("and", logical("and", TESTS["days"], TESTS["piece"]), TESTS["beginning"]),
    "either": logical("or", TESTS["value"], TESTS["equals"]),
    "either piece": logical("or", TESTS["piece"], TESTS["ref"]),
}


@pytest.mark.parametrize("sort", ["-created", "blobref", "-mod", "created"])
@pytest.mark.parametrize("name", TESTS)
def test_rows_lead_to_what_a_look_at_all_finds(name: str, sort: str, world: World) -> None:
    def pages(constraint: Json) -> list[list[str]]:
        found, token = [], ""
        while True:
            request: Json = {"constraint": constraint, "sort": sort, "limit": 7}
            answer = ask(request | ({"continue": token} if token else {}), world)
            found.append(refs_of(answer))
            token = answer.body.get("continue", "")
            if not token:
                return found

    everything = {"camliType": "permanode"}
    plain = logical("and", everything, TESTS[name])
    # What is denied twice has no rows.
    looked_at = logical("and", everything, logical("not", logical("not", TESTS[name])))
    assert pages(plain) == pages(looked_at)
