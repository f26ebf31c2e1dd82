"""What counts as a schema blob, and what is read from it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import Corrupt
from peatkeep.schema.node import permission
from peatkeep.schema.parse import Kept, Part, is_schema, parse, parse_object
from peatkeep.schema.text import MAX_CONTAINERS, MAX_SCHEMA_SIZE
from peatkeep.schema.times import format_time

GOLDEN = json.loads((Path(__file__).parent.parent / "vectors/schema/json.json").read_text())
A, B = Ref.of(b"a"), Ref.of(b"b")


def blob(members: str) -> bytes:
    return f'{{"camliVersion":1,{members}}}'.encode()


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", GOLDEN["recognition"], ids=lambda case: case["label"])
def test_a_text_is_recognised_and_read_as_the_model_does(case: dict[str, Any]) -> None:
    if "padTo" in case:
        head = '{"camliVersion":1,"camliType":"file","pad":"'
        data = (head + "x" * (case["padTo"] - len(head) - 2) + '"}').encode()
    else:
        data = case["text"].encode()
    schema = parse(data)
    assert (schema is not None) == is_schema(data) == case["isSchema"]
    if schema is None:
        return
    assert schema.type == case["type"]
    assert schema.file_name.decode("utf-8", "replace") == case.get("fileName", "")
    assert f"{permission(schema):o}" == case["fileMode"]
    modified_ns = schema.time_ns("unixMtime")
    assert (modified_ns is None) == ("modTime" not in case)
    if modified_ns is not None:
        assert format_time(modified_ns) == case["modTime"]


@pytest.mark.parametrize(
    "members",
    [
        '"unixOwnerId":"0"',
        '"unixOwnerId":1.0',
        '"unixOwnerId":9223372036854775808',
        '"unixGroupId":true',
        '"camliType":1',
        '"camliSig":[]',
        '"value":{}',
        '"transitive":"true"',
        '"transitive":1',
        '"camliSigner":1',
        '"target":""',
        '"permaNode":"x"',
        '"members":{}',
        f'"members":"{A}"',
        '"members":["x"]',
        '"mergeSets":[1]',
        '"fileNameBytes":"a"',
        '"fileNameBytes":[1e999]',
        '"symlinkTargetBytes":1',
        '"claimDate":1',
        '"claimDate":"yesterday"',
        '"expires":"2014-05-13"',
        '"parts":{}',
        '"parts":[1]',
        '"parts":[[]]',
        '"parts":[{"size":"1"}]',
        '"parts":[{"size":-0}]',
        '"parts":[{"size":18446744073709551616}]',
        '"parts":[{"offset":1.0}]',
        '"parts":[{"blobRef":"x"}]',
        '"parts":[{"bytesRef":1}]',
        '"PERMANODE":1',
        '"Parts":[{"SIZE":-1}]',
        f'"target":"{A}","target":"{A}"',
        f'"target":"{A}","TARGET":"{B}"',
        f'"target":"{A}","target":null',
        f'"members":["{A}"],"members":["{B}"]',
        f'"members":[null,"{A}"],"Members":["{B}"]',
        f'"parts":[{{"blobRef":"{A}"}}],"parts":[{{"size":1}}]',
        f'"parts":[{{"blobRef":"{A}","blobref":"{A}"}}]',
        '"\u017fearch":1,"camli\u017figner":1',
        '"unixOwnerId":1,"unixOwnerId":"x"',
    ],
)
def test_one_member_of_a_wrong_kind_disqualifies_the_blob(members: str) -> None:
    assert parse(blob(members)) is None


@pytest.mark.parametrize(
    ("members", "read"),
    [
        ('"unixOwnerId":-5', {"unixOwnerId": -5}),
        ('"unixOwnerId":-0', {"unixOwnerId": 0}),
        ('"unixOwnerId":null', {}),
        ('"camliType":"a","camliType":"b"', {"camliType": "b"}),
        ('"camliType":"a","CAMLITYPE":"b"', {"camliType": "b"}),
        ('"camliType":"a","camliType":null', {"camliType": "a"}),
        (f'"target":null,"target":"{A}"', {"target": A}),
        (f'"PERMANODE":"{A}"', {"permaNode": A}),
        (f'"camli\u017figner":"{A}"', {"camliSigner": A}),
        (f'"perma\u004eode":"{A}"', {"permaNode": A}),
        (f'"members":["{A}",null,"{A}"]', {"members": [A, A]}),
        (f'"members":[],"members":["{A}"]', {"members": [A]}),
        (f'"members":["{A}"],"members":[]', {"members": []}),
        (f'"members":["{A}"],"members":null', {}),
        (f'"members":[null],"members":["{A}"]', {"members": [A]}),
        ('"fileNameBytes":["a"],"fileNameBytes":null', {}),
        ('"claimDate":""', {}),
        ('"claimDate":null', {}),
        ('"claimDate":"0000-00-00T00:00:00.5Z"', {}),
        ('"claimDate":"2014-05-13T16:53:20Z"', {"claimDate": "2014-05-13T16:53:20Z"}),
        ('"search":[1,{"a":null}]', {"search": [1, {"a": None}]}),
        ('"transitive":true', {"transitive": True}),
        ('"own":1e999,"own2":1.5', {"own": float("inf"), "own2": 1.5}),
        ('"unixXattrs":{"a":"b"},"other":null', {"unixXattrs": {"a": "b"}, "other": None}),
        ('"value":"\\ud800"', {"value": "\ufffd"}),
    ],
)
def test_members_are_read_under_their_canonical_names(
    members: str, read: dict[str, object]
) -> None:
    schema = parse(blob(members))
    assert schema is not None
    assert schema.members == {"camliVersion": 1, **read}


def test_the_accessors_give_each_kind_or_say_that_it_is_absent() -> None:
    schema = parse(
        blob(
            f'"camliType":"claim","target":"{A}","members":["{A}","{B}"],"transitive":true,'
            f'"unixOwnerId":7,"inodeRef":"{B}","claimDate":"1970-01-01T00:00:01Z"'
        )
    )
    assert schema is not None
    assert (schema.type, schema.version) == ("claim", 1)
    assert (schema.string("camliType"), schema.string("value")) == ("claim", "")
    assert schema.string("unixOwnerId") == ""
    assert (schema.ref("target"), schema.ref("inodeRef"), schema.ref("entries")) == (A, B, None)
    assert (schema.refs("members"), schema.refs("mergeSets")) == ([A, B], [])
    assert (schema.integer("unixOwnerId"), schema.integer("unixGroupId")) == (7, None)
    assert schema.integer("transitive") is None
    assert schema.boolean("transitive")
    assert not schema.boolean("unixOwnerId")
    assert (schema.time_ns("claimDate"), schema.time_ns("expires")) == (1_000_000_000, None)
    assert schema.parts == ()


def test_parts_are_read_with_their_defaults() -> None:
    schema = parse(
        blob(f'"parts":[{{}},{{"size":3,"BLOBREF":"{A}","x":1}},{{"offset":2,"bytesRef":"{B}"}}]')
    )
    assert schema is not None
    assert schema.parts == (Part(0), Part(3, A), Part(0, None, B, 2))


def test_a_null_part_is_a_schema_blob_but_a_broken_file() -> None:
    schema = parse(blob('"camliType":"file","parts":[null]'))
    assert schema is not None
    assert schema.has_null_part
    with pytest.raises(Corrupt):
        _ = schema.parts


def test_content_is_routed_by_fewer_rules_than_the_index_has() -> None:
    for data in (b' \n{"camliType":"file"}', b'{"CamliType":"file"}'):
        assert parse(data) is None
        schema = parse_object(data)
        assert schema is not None
        assert schema.type == "file"
    for data in (b"[]", b"null", b'"camliVersion"', b'{"camliType":1}', b"{} {}"):
        assert parse_object(data) is None
    assert parse_object(b"{}" + b" " * (MAX_SCHEMA_SIZE - 2)) is not None
    assert parse_object(b"{}" + b" " * (MAX_SCHEMA_SIZE - 1)) is None


NAMES = """
    camliVersion camliType parts size offset blobRef bytesRef members target claimDate
    fileNameBytes fileName search Target MEMBERS own
"""
ATOMS = f"""
    null true 0 -0 -1 1.5 1e999 {"9" * 30} "" "x" "{A}" "2014-05-13T16:53:20Z" "\\ud800"
    1e nul "\\
"""
JSON_TEXTS = st.recursive(
    st.sampled_from(ATOMS.split()),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(st.sampled_from(NAMES.split()), inner), max_size=6).map(
            lambda pairs: "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"
        )
    ),
    max_leaves=30,
)


@given(text=JSON_TEXTS)
def test_any_arrangement_of_members_is_read_or_refused_without_an_error(text: str) -> None:
    data = text.encode()
    schema = parse_object(data)
    if schema is None:
        return
    _ = schema.file_name, schema.symlink_target, schema.time_ns("claimDate")
    if not schema.has_null_part:
        assert sum(part.size for part in schema.parts) >= 0


@given(data=st.binary())
def test_any_bytes_are_read_or_refused_without_an_error(data: bytes) -> None:
    parse_object(data)
    parse_object(b'{"camliVersion":1,"fileName":"' + data + b'"}')


@pytest.mark.parametrize(
    "data",
    [
        b"[" * MAX_SCHEMA_SIZE,
        b'{"a":' * 200_000,
        b'{"a":[' * 150_000 + b"]}" * 10,
        b'{"camliVersion":' + b"9" * 1_000_000 + b"}",
        blob('"parts":[' + "{}," * MAX_CONTAINERS + "{}]"),
        blob('"a":["' + '","' * 300_000),
        blob('"a":"' + "\\" * 1_000_001 + '"'),
        b"{" + b'"' * 1_000_000,
    ],
    ids=range(8),
)
def test_what_would_take_much_stack_or_time_is_refused(data: bytes) -> None:
    assert parse_object(data) is None


def test_a_text_full_of_brackets_is_no_nesting() -> None:
    schema = parse(blob('"value":"' + "[{" * 200_000 + '"'))
    assert schema is not None
    assert len(schema.string("value")) == 400_000


def test_a_brace_before_anything_but_a_name_or_the_end_begins_no_object() -> None:
    white = " \t\r\n"
    assert parse_object(f'{white}{{{white}"camliType": "bytes"}}{white}'.encode()) is not None
    assert parse_object(f"{white}{{{white}}}".encode()) is not None
    for begins in (b"{\0", b"{x", b"{'", b"{{", b"{1", b"{\v}", b"{,"):
        assert parse_object(begins + b'"camliType": "bytes"}') is None


def test_what_was_read_last_is_kept_as_long_as_its_texts_are_few_bytes() -> None:
    kept = Kept(limit_bytes=10_000)
    texts = [b'{"camliVersion": 1, "number": %d}%s' % (number, b" " * 970) for number in range(30)]
    first = [kept.read(text) for text in texts]
    again = [kept.read(text) for text in reversed(texts)]
    same = [one is other for one, other in zip(first, reversed(again), strict=True)]
    assert same == [False] * 21 + [True] * 9
    assert kept.size_bytes <= 10_000


def test_what_is_no_schema_blob_is_kept_too() -> None:
    kept = Kept()
    assert kept.read(b"{]") is kept.read(b"{]") is None
    assert kept.size_bytes == 2
