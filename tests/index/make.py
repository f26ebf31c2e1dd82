"""Blobs for tests, signed as the owner of the golden vectors."""

from collections.abc import Mapping, Sequence

from peatkeep.blob import Ref
from peatkeep.schema.text import encode
from tests.index.corpus import Blob, signer

DAY_NS = 86_400 * 1_000_000_000
START_NS = 1_500_000_000 * 1_000_000_000


def blob(data: bytes) -> Blob:
    return Ref.of(data), data


def schema(members: Mapping[str, object]) -> Blob:
    return blob(encode(members))


def key(name: str = "owner") -> Blob:
    return signer(name).ref, signer(name).public_text


def signed(members: Mapping[str, object], day: int = 0, by: str = "owner") -> Blob:
    return blob(signer(by).sign_members(members, START_NS + day * DAY_NS))


def permanode(name: str) -> Blob:
    return signed({"camliType": "permanode", "key": name})


def claim(
    target: Ref, attribute: str, value: str, day: int = 1, kind: str = "set-attribute"
) -> Blob:
    members = {
        "camliType": "claim",
        "claimType": kind,
        "permaNode": target,
        "attribute": attribute,
        "value": value,
    }
    return signed(members, day)


def delete(target: Ref, day: int = 2, by: str = "owner") -> Blob:
    return signed({"camliType": "claim", "claimType": "delete", "target": target}, day, by)


def file(parts: Sequence[Mapping[str, object] | None], name: str = "f.txt") -> Blob:
    return schema({"camliType": "file", "fileName": name, "parts": list(parts)})


def part(of: Blob, size: int | None = None) -> dict[str, object]:
    return {"blobRef": of[0], "size": len(of[1]) if size is None else size}


def bytes_blob(parts: Sequence[Mapping[str, object]]) -> Blob:
    return schema({"camliType": "bytes", "parts": list(parts)})


def via(of: Blob, size: int) -> dict[str, object]:
    return {"bytesRef": of[0], "size": size}


def directory(entries: Ref, name: str = "d") -> Blob:
    return schema({"camliType": "directory", "fileName": name, "entries": entries})


def static_set(members: Sequence[Ref] = (), merge: Sequence[Ref] = ()) -> Blob:
    if merge:
        return schema({"camliType": "static-set", "mergeSets": list(merge)})
    return schema({"camliType": "static-set", "members": list(members)})
