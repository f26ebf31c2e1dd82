"""Blobs for tests of handlers: files, directories and signed claims, stored in a server."""

import time
from collections.abc import Mapping, Sequence

from peatkeep.blob import Ref
from peatkeep.blobserver.storage import Storage
from peatkeep.schema.directory import static_set_blobs
from peatkeep.schema.filewriter import write_file
from peatkeep.schema.keyring import SecretKey, read_ring
from peatkeep.schema.signing import Signer
from peatkeep.schema.text import encode

from .running import RunningServer

ROOT = "/bs-and-maybe-also-index/"


def store_of(server: RunningServer) -> Storage:
    return server.service.world.topology.storage(ROOT)


def put(storage: Storage, data: bytes) -> Ref:
    storage.receive(Ref.of(data), data)
    return Ref.of(data)


def file(storage: Storage, name: str, content: bytes, **members: object) -> Ref:
    def out(ref: Ref, data: bytes) -> None:
        storage.receive(ref, data)

    return write_file(out, [content], {"fileName": name, **members}).ref


def directory(storage: Storage, name: str, members: Sequence[Ref]) -> Ref:
    blobs = static_set_blobs(members)
    storage.receive_many(blobs)
    entries = blobs[-1][0]
    return put(storage, encode({"camliType": "directory", "fileName": name, "entries": entries}))


def own_key(server: RunningServer) -> SecretKey:
    return read_ring(server.secring.read_bytes())[0]


def claim(
    storage: Storage, key: SecretKey, members: Mapping[str, object], at_ns: int | None = None
) -> Ref:
    """Sign and store a claim, and the key that it names."""
    signer = Signer(key)
    put(storage, signer.public_text)
    return put(storage, signer.sign_members(members, time.time_ns() if at_ns is None else at_ns))
