"""JSON text: the exact form that is written, and what is read."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import Invalid
from peatkeep.schema.names import target_members
from peatkeep.schema.parse import parse
from peatkeep.schema.text import MAX_NESTING, decode, encode

GOLDEN = json.loads((Path(__file__).parent.parent / "vectors/schema/json.json").read_text())

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", GOLDEN["symlinkTargets"], ids=lambda case: case["target_b64"])
def test_a_link_target_has_the_golden_text(case: dict[str, str]) -> None:
    target = base64.b64decode(case["target_b64"])
    text = encode({"camliType": "symlink", "fileName": "n", **target_members(target)})
    assert text.decode() == case["text"]
    assert Ref.of(text) == case["ref"]
    schema = parse(text)
    assert schema is not None
    assert schema.symlink_target == target


@given(members=st.dictionaries(st.text(), VALUES, max_size=6))
def test_the_text_is_the_indented_dump_with_five_more_escapes(members: dict[str, object]) -> None:
    members = {"camliType": "x"} | members
    members.pop("camliVersion", None)
    body = json.dumps(members, indent=2, ensure_ascii=False, sort_keys=True)[2:]
    for sign in "<>&\u2028\u2029":
        body = body.replace(sign, f"\\u{ord(sign):04x}")
    assert encode(members).decode() == '{"camliVersion": 1,\n' + body
    assert decode(encode(members)) == members | {"camliVersion": 1}


def test_control_characters_are_escaped_in_their_short_form_where_there_is_one() -> None:
    text = encode({"value": "\b\t\n\f\r\x00\x1f\x7f\x80"})
    assert text == (
        b'{"camliVersion": 1,\n  "value": "\\b\\t\\n\\f\\r\\u0000\\u001f\x7f\xc2\x80"\n}'
    )


def test_a_blob_without_other_members_is_an_object_too() -> None:
    assert encode({}) == b'{"camliVersion": 1\n}'


def test_each_byte_that_is_not_utf_8_becomes_a_replacement_character() -> None:
    text = b"a\xe2\x82\xff".decode("utf-8", "surrogateescape")
    assert b'"a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"' in encode({"value": text})


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (-2.5, "-2.5"),
        (0.1, "0.1"),
        (1e-06, "0.000001"),
        (1.5e-07, "1.5e-7"),
        (1e20, "100000000000000000000"),
        (2.0**66, "73786976294838210000"),
        (1e21, "1e+21"),
        (1.25e300, "1.25e+300"),
        (-0.0, "-0"),
    ],
)
def test_a_number_with_a_fraction_has_its_shortest_digits(number: float, text: str) -> None:
    assert encode({"n": number}).decode() == '{"camliVersion": 1,\n  "n": ' + text + "\n}"


def test_what_json_has_no_form_for_is_not_written() -> None:
    with pytest.raises(Invalid):
        encode({"n": float("nan")})
    with pytest.raises(TypeError):
        encode({"n": b"bytes"})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}x",
        b"\xef\xbb\xbf{}",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 01}',
        b'{"a": +1}',
        b'{"a": .5}',
        b'{"a": "\n"}',
        b'{"a": "\\x41"}',
        b'{"a": 1,}',
        b"{'a': 1}",
        b'{"a" 1}',
        b"{}\x00",
        b"{}\xc2\xa0",
    ],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        decode(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\ud83d\u0041"', "\ufffdA"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud800\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\\ud83d"', "\\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (b'"a\xe2\x82b\xff"', "a\ufffd\ufffdb\ufffd"),
        (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
    ],
)
def test_half_pairs_and_bytes_that_are_not_utf_8_read_as_replacements(
    data: bytes, value: str
) -> None:
    assert decode(data) == value


def test_nesting_has_a_limit_that_brackets_in_texts_do_not_count_for() -> None:
    deepest = b"[" * MAX_NESTING + b"]" * MAX_NESTING
    decode(deepest)
    decode(b'["' + b"[" * 5000 + b'"]')
    decode(b'["\\"' + b"[" * 5000 + b'\\\\"]')
    decode(b"[" + b"[]," * 5000 + b"[]]")
    for data in (b"[" + deepest + b"]", b'{"a":' * 100_000, b"[" * 1_000_000):
        with pytest.raises(Invalid):
            decode(data)


def test_integers_of_any_length_are_read() -> None:
    assert decode(b"9" * 300) == int("9" * 300)
    assert decode(b"1" + b"0" * 305) == 1e305
    assert decode(b"-" + b"9" * 100_000) == float("-inf")
