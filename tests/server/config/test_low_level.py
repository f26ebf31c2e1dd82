"""The low level as a record, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from peatkeep.errors import ConfigError
from peatkeep.server.config.low_level import record_of
from peatkeep.server.config.record import Limits, Prefix

VECTORS = Path(__file__).parents[2] / "vectors"
CONVERTED = [
    case
    for case in json.loads((VECTORS / "http/config.json").read_text())["cases"]
    if "low_level" in case
]


def low(**prefixes: Any) -> dict[str, Any]:
    """A configuration with these prefixes, named without slashes."""
    entries = {f"/{name}/": entry for name, entry in prefixes.items()}
    return {"auth": "none", "handlerConfig": True, "prefixes": entries}


def problem(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        record_of(values, Path("/c/server.toml"))
    assert str(caught.value).startswith("read /c/server.toml: ")
    return caught.value.reason


MEMORY = {"handler": "storage-memory"}


@pytest.mark.parametrize("case", CONVERTED, ids=lambda case: case["id"])
def test_every_converted_configuration_is_accepted(case: dict[str, Any]) -> None:
    config = record_of(case["low_level"])
    assert config.prefixes.keys() == case["low_level"]["prefixes"].keys()
    assert config.source == case["low_level"]


def test_the_record_holds_what_was_configured() -> None:
    bs = {"handler": "storage-filesystem", "handlerArgs": {"path": "/x"}, "internal": True}
    values = low(bs=bs) | {"listen": ":1", "baseURL": "http://h/", "limits": {"header_wait_s": 2}}
    config = record_of(values, Path("/f"))
    assert config.prefixes == {"/bs/": Prefix("storage-filesystem", {"path": "/x"}, internal=True)}
    assert (config.listen, config.base_url, config.path) == (":1", "http://h", Path("/f"))
    assert config.limits == Limits(header_wait_s=2)


def test_disabled_prefixes_are_left_out() -> None:
    assert record_of(low(a=MEMORY, b=MEMORY | {"enabled": False})).prefixes.keys() == {"/a/"}


def test_all_problems_are_told_at_once() -> None:
    reason = problem(low(a={"handler": "storage-filesystem", "handlerArgs": {"pth": 1}}))
    assert '/a/ (storage-filesystem): unknown key "pth"; did you mean "path"?' in reason
    assert '/a/ (storage-filesystem): key "path" is missing' in reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"auht": "x"}, 'unknown key "auht"; did you mean "auth"?'),
        ({"auth": ""}, "auth is missing"),
        ({"auth": 5}, "auth must be text"),
        ({"https": True, "httpsCert": "/c"}, "go together"),
        ({"httpsCert": "/c", "httpsKey": "/k"}, "need https = true"),
        ({"limits": {"header_wait": 1}}, 'limits: unknown key "header_wait"; did you mean'),
        ({"limits": {"header_wait_s": 0}}, "header_wait_s must be above zero"),
        ({"limits": {"connections": 1.5}}, "connections must be a whole number"),
        ({"limits": {"connections": True}}, "connections must be a whole number"),
        ({"prefixes": {"bs": MEMORY}}, '"bs" must begin and end with /'),
        ({"prefixes": {"/bs/": 5}}, "/bs/ must be a table"),
        ({"prefixes": {"/bs/": {}}}, "/bs/: handler is missing"),
        ({"prefixes": {"/bs/": {"handler": "help", "hndlerArgs": {}}}}, "handlerArgs"),
        ({"prefixes": {"/bs/": {"handler": "hlp"}}}, 'no handler "hlp"; did you mean "help"?'),
    ],
)
def test_what_can_not_be_meant_is_refused(changes: dict[str, Any], words: str) -> None:
    assert words in problem(low(a=MEMORY) | changes)


def test_a_reference_to_a_prefix_that_is_not_there_is_refused() -> None:
    write = {"if": "isSchema", "then": "/c/", "else": "/a/"}
    cond = {"handler": "storage-cond", "handlerArgs": {"read": "/a/", "write": write}}
    reason = problem(low(a=MEMORY, b=cond))
    assert reason == '/b/ (storage-cond): write.then refers to "/c/", which is not configured'


def test_a_reference_to_a_disabled_prefix_is_refused() -> None:
    union = {"handler": "storage-union", "handlerArgs": {"subsets": ["/a/"]}}
    assert '"/a/", which is not' in problem(low(a=MEMORY | {"enabled": False}, b=union))


def test_stores_that_need_each_other_are_refused() -> None:
    a = {"handler": "storage-union", "handlerArgs": {"subsets": ["/b/"]}}
    b = {"handler": "storage-shard", "handlerArgs": {"backends": ["/a/"]}}
    assert problem(low(a=a, b=b)) == "handlers refer to each other in a circle: /a/ > /b/ > /a/"


def test_arguments_of_storages_from_elsewhere_are_left_to_them() -> None:
    record_of(low(a={"handler": "storage-mine", "handlerArgs": {"anything": 1}}))
