"""Metadata of files, directories, links and the like, to blobs and back."""

import base64
import json
import stat as modes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import TooLarge, Unsupported
from peatkeep.schema.directory import static_set_blobs
from peatkeep.schema.filewriter import write_file
from peatkeep.schema.names import target_members
from peatkeep.schema.node import (
    MAX_HOLES,
    NodeStat,
    inode_blob,
    node_members,
    permission,
    restore_stat,
)
from peatkeep.schema.parse import Schema, parse
from peatkeep.schema.text import encode

VECTORS = Path(__file__).parent.parent / "vectors/schema"
TREE = json.loads((VECTORS / "dirtree.json").read_text())
UPLOADS = json.loads((VECTORS / "uploads.json").read_text())["uploads"]
KINDS = {
    "regular": modes.S_IFREG,
    "directory": modes.S_IFDIR,
    "symlink": modes.S_IFLNK,
    "fifo": modes.S_IFIFO,
    "socket": modes.S_IFSOCK,
    "char-device": modes.S_IFCHR,
    "block-device": modes.S_IFBLK,
}
PLAIN = NodeStat(
    modes.S_IFREG | 0o644, 1000, 100, 1_400_000_000_500_000_000, 1_400_000_000_500_000_000
)

Make = Callable[[dict[str, object]], bytes]


def golden_stat(case: dict[str, Any]) -> NodeStat:
    return NodeStat(
        mode=KINDS[case["kind"]] | int(case["mode"], 8),
        uid=case["uid"],
        gid=case["gid"],
        mtime_ns=case["mtime_ns"],
        ctime_ns=case["ctime_ns"],
        nlink=case.get("nlink", 1),
        user=case["user"],
        group=case["group"],
    )


def schema_of(members: dict[str, object]) -> Schema:
    schema = parse(encode(members))
    assert schema is not None
    return schema


def restored(members: dict[str, object]) -> Any:
    return restore_stat(schema_of(members))


def file_text(data: bytes, members: dict[str, object]) -> bytes:
    blobs: dict[Ref, bytes] = {}
    return blobs.setdefault(write_file(blobs.__setitem__, [data], members).ref)


# -- golden data --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden_entries() -> dict[bytes, list[dict[str, Any]]]:
    """The entries of the golden tree below the path of the directory that holds them."""
    below: dict[bytes, list[dict[str, Any]]] = {}
    for entry in TREE["entries"]:
        path = base64.b64decode(entry["path_b64"])
        if path:
            below.setdefault(path.rpartition(b"/")[0], []).append(entry)
    return below


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("entry", TREE["entries"], ids=lambda entry: entry["path_b64"])
def test_a_node_has_the_golden_text(
    entry: dict[str, Any], golden_entries: dict[bytes, list[dict[str, Any]]], make: Make
) -> None:
    name = base64.b64decode(entry["name_b64"])
    members = node_members(name, golden_stat(entry), plain=True)
    if entry["kind"] == "regular":
        text = file_text(make(entry["gen"]), members)
    elif entry["kind"] == "directory":
        inside = golden_entries.get(base64.b64decode(entry["path_b64"]), [])
        sets = static_set_blobs([Ref(each["ref"]) for each in inside])
        golden_sets = {each["ref"]: each["text"] for each in TREE["staticSets"]}
        assert golden_sets[sets[-1][0]] == sets[-1][1].decode()
        text = encode({**members, "entries": sets[-1][0]})
    elif entry["kind"] == "symlink":
        text = encode({**members, **target_members(base64.b64decode(entry["target_b64"]))})
    else:
        text = encode(members)
    assert text.decode() == entry["text"]
    assert Ref.of(text) == entry["ref"]


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", UPLOADS, ids=lambda case: case["name"])
def test_an_upload_has_the_golden_text(case: dict[str, Any]) -> None:
    lstat = case["lstat"]
    members = node_members(
        case["path"].encode(),
        golden_stat(lstat),
        plain=True,
        cap_ctime="--capctime" in case["options"],
    )
    if lstat["kind"] == "directory":
        text = encode({**members, "entries": static_set_blobs([])[-1][0]})
    elif lstat["kind"] == "symlink":
        text = encode({**members, **target_members(lstat["target"].encode())})
    else:
        only_contents = "--contents_only" in case["options"]
        text = file_text(case["content"].encode(), {} if only_contents else members)
    assert text.decode() == case["text"]
    assert Ref.of(text) == case["ref"]


# -- what Perkeep keeps -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_node_with_nothing_special_is_written_alike_in_both_ways(kind: int) -> None:
    stat = PLAIN._replace(mode=kind | 0o644)
    members = node_members(b"x", stat)
    members.pop("unixDevice", None)
    assert members == node_members(b"x", stat, plain=True)


def test_a_kind_of_node_that_no_blob_stands_for_is_refused() -> None:
    with pytest.raises(Unsupported):
        node_members(b"door", PLAIN._replace(mode=0o150644))


def test_a_ctime_within_the_first_second_of_1970_is_not_written() -> None:
    assert "unixCtime" not in node_members(b"x", PLAIN._replace(ctime_ns=999_999_999))
    assert "unixCtime" in node_members(b"x", PLAIN._replace(ctime_ns=-1))


def test_ctimes_are_capped_by_comparing_texts_and_only_of_files() -> None:
    later = PLAIN._replace(ctime_ns=1_400_000_001_000_000_000)
    assert node_members(b"x", later, cap_ctime=True)["unixCtime"] == "2014-05-13T16:53:20.5Z"
    same_second = PLAIN._replace(ctime_ns=1_400_000_000_000_000_000)
    assert node_members(b"x", same_second, cap_ctime=True)["unixCtime"] == "2014-05-13T16:53:20.5Z"
    directory = later._replace(mode=modes.S_IFDIR | 0o755)
    assert node_members(b"x", directory, cap_ctime=True)["unixCtime"] == "2014-05-13T16:53:21Z"


@pytest.mark.parametrize(
    ("text", "kind", "bits"),
    [
        (None, "file", 0o644),
        (None, "directory", 0o755),
        ("", "directory", 0o755),
        ("0640", "file", 0o640),
        ("640", "file", 0o640),
        ("00", "file", 0),
        ("04755", "file", 0o755),
        ("rwx", "file", 0),
        ("0o644", "file", 0),
        ("-644", "file", 0),
        ("7" * 30, "file", 0),
    ],
)
def test_permissions_are_read_as_every_reader_does(text: str | None, kind: str, bits: int) -> None:
    members: dict[str, object] = {"camliType": kind}
    if text is not None:
        members["unixPermission"] = text
    assert permission(schema_of(members)) == bits


@given(
    kind=st.sampled_from([modes.S_IFREG, modes.S_IFDIR, modes.S_IFIFO, modes.S_IFSOCK]),
    bits=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    mtime_ns=st.integers(-(2**62), 2**62),
    user=st.text(min_size=1),
)
def test_metadata_comes_back(kind: int, bits: int, uid: int, mtime_ns: int, user: str) -> None:
    stat = PLAIN._replace(mode=kind | bits, uid=uid, mtime_ns=mtime_ns, user=user)
    back = restored(node_members(b"x", stat))
    assert (back.mode, back.uid, back.gid, back.mtime_ns) == (bits, uid, 100, mtime_ns)
    assert (back.user, back.group) == (user, "")


def test_what_is_not_said_is_left_to_the_restorer() -> None:
    back = restored({"camliType": "file"})
    assert back == (0o644, None, None, None, "", "", {}, [], None, None)
    assert restored({"camliType": "symlink", "unixPermission": "0777"}).mode is None
    assert restored({"camliType": "file", "unixOwnerId": -1}).uid is None
    assert restored({"camliType": "file", "unixMtime": "yesterday"}).mtime_ns is None


# -- members of our own -------------------------------------------------------------------------


def test_special_bits_are_kept_beside_the_permission() -> None:
    members = node_members(b"x", PLAIN._replace(mode=modes.S_IFDIR | 0o1777))
    assert (members["unixPermission"], members["unixMode"]) == ("0777", "01777")
    assert restored(members).mode == 0o1777
    link = node_members(b"x", PLAIN._replace(mode=modes.S_IFLNK | 0o7777))
    assert not {"unixMode", "unixPermission"} & link.keys()


def test_devices_are_sockets_that_say_which_device_they_are() -> None:
    stat = PLAIN._replace(mode=modes.S_IFBLK | 0o660, special_device=(8, 1))
    assert node_members(b"sda1", stat)["camliType"] == "socket"
    assert restored(node_members(b"sda1", stat)).special_device == ("b", 8, 1)
    assert "unixDevice" not in node_members(b"sda1", stat, plain=True)


def test_names_of_one_file_share_the_ref_of_an_inode_blob() -> None:
    stat = PLAIN._replace(inode=7, device=3, nlink=2)
    members = node_members(b"x", stat)
    assert members["inodeRef"] == Ref.of(inode_blob(stat))
    assert restored(members).inode_ref == node_members(b"y", stat)["inodeRef"]
    inode = parse(inode_blob(stat))
    assert inode is not None
    assert [inode.integer(name) for name in ("inodeId", "deviceId", "numLinks")] == [7, 3, 2]
    for other in (stat._replace(nlink=1), stat._replace(mode=modes.S_IFDIR | 0o755)):
        assert "inodeRef" not in node_members(b"x", other)


@given(
    xattrs=st.dictionaries(
        st.binary(min_size=1).filter(lambda name: b"\0" not in name), st.binary(), max_size=4
    )
)
def test_extended_attributes_of_any_bytes_come_back(xattrs: dict[bytes, bytes]) -> None:
    assert restored(node_members(b"x", PLAIN._replace(xattrs=xattrs))).xattrs == xattrs


def test_the_name_of_an_extended_attribute_is_text_as_far_as_it_can_be() -> None:
    xattrs = {"user.é".encode(): b"a", b"user.%\xff": b""}
    members = node_members(b"x", PLAIN._replace(xattrs=xattrs))
    assert members["unixXattrs"] == {"user.é": "YQ==", "user.%25%FF": ""}


def test_extended_attributes_beyond_what_a_blob_holds_are_refused() -> None:
    xattrs = {f"user.{number}".encode(): bytes(60_000) for number in range(4)}
    with pytest.raises(TooLarge):
        node_members(b"x", PLAIN._replace(xattrs=xattrs))
    node_members(b"x", PLAIN._replace(xattrs=xattrs), plain=True)


def test_holes_are_listed_unless_there_are_too_many() -> None:
    holes = [(number * 8192, 4096) for number in range(MAX_HOLES)]
    assert restored(node_members(b"x", PLAIN._replace(holes=holes))).holes == holes
    assert "unixHoles" not in node_members(b"x", PLAIN._replace(holes=[*holes, (10**9, 1)]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("unixHoles", "0+4096"),
        ("unixHoles", [[0]]),
        ("unixHoles", [[0, 1.5]]),
        ("unixHoles", [[True, 5]]),
        ("unixHoles", [[-1, 5]]),
        ("unixHoles", [[0, 0]]),
        ("unixHoles", [[0, 10], [5, 10]]),
        ("unixHoles", [[10, 10], [0, 5]]),
        ("unixHoles", [[0, 2**64]]),
        ("unixXattrs", [{"k": "user.a", "v": "YQ=="}]),
        ("unixXattrs", {"user.a": 1}),
        ("unixXattrs", {"user.a": "no base64!"}),
        ("unixXattrs", {"user.a": "é"}),
        ("unixXattrs", {"": "YQ==", "a\0b": "YQ==", "a%00b": "YQ=="}),
        ("unixMode", 2048),
        ("unixMode", "rws"),
        ("unixDevice", "x:1:2"),
        ("unixDevice", "c:1"),
        ("inodeRef", "x"),
        ("inodeRef", [1]),
    ],
)
def test_a_malformed_member_of_ours_counts_as_absent(name: str, value: object) -> None:
    assert restored({"camliType": "file", name: value}) == restored({"camliType": "file"})
