"""Whatever stands in a configuration, the outcome is a record or a ConfigError."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peatkeep.errors import ConfigError
from peatkeep.server.config import high_keys, load, redact, support
from peatkeep.server.config.handlers import SHAPES

ENVIRON = {"HOME": "/home/ann", "X": "x"}

words = st.sampled_from(["", "/bs/", "/x", "a:b:c", "u@h:p", "none", "userpass:a:b", ":1", "Ü"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5)
expressions = st.sampled_from([["_env", "${X}"], ["_env", "${NO}", True], ["_fileobj", "x"]])
names = st.sampled_from(["handler", "handlerArgs", "enabled", "path", "type", "/p/", "camliRoot"])
values = st.recursive(
    scalars | expressions,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
high = st.dictionaries(st.sampled_from(sorted(high_keys.KEYS)), values, max_size=8)
arguments = st.sampled_from(
    sorted({name for shape in SHAPES.values() for name in shape.required | shape.optional})
)
entries = st.fixed_dictionaries(
    {"handler": st.sampled_from(sorted(SHAPES)) | values},
    optional={
        "handlerArgs": st.dictionaries(arguments, values | words, max_size=4) | values,
        "enabled": st.booleans(),
    },
)
low = st.fixed_dictionaries(
    {"handlerConfig": st.just(True), "auth": words | values},
    optional={
        "prefixes": st.dictionaries(st.sampled_from(["/bs/", "/a/", "b"]), entries | values),
        "limits": st.dictionaries(st.sampled_from(["connections", "header_wait_s"]), values),
        "listen": words | values,
    },
)


def try_all(configuration: dict[str, Any]) -> None:
    try:
        config = load.from_values(configuration, ENVIRON)
    except ConfigError:
        return
    support.check_supported(config)
    support.warnings(config)
    json.dumps(redact.redacted(config.source))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(high)
def test_any_high_level_is_a_record_or_a_config_error(configuration: dict[str, Any]) -> None:
    base = {"auth": "localhost", "identity": "D4DEEB67AB332011", "runIndex": False}
    try_all(base | {"blobPath": "/b"} | configuration)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(low)
def test_any_low_level_is_a_record_or_a_config_error(configuration: dict[str, Any]) -> None:
    try_all(configuration)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": ' * 100_000,
        "a = " + "[" * 100_000,
        '{"a": ' + "[" * 400 + "]" * 400 + "}",
        '{"a": ' + "1" * 5000 + "}",
        '{"blobPath": "a\\u0000b"}',
        '{"blobPath": "a\\ud800b"}',
        "blobPath = 2026-01-01",
        '{"blobPath": ["_env", "${LONE}"]}',
        "[]",
        "\x00",
    ],
    ids=range(10),
)
def test_odd_texts_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(ConfigError):
        load.load(tmp_path / "c", ENVIRON | {"LONE": "\udc80"})
