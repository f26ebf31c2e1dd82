"""The test keys of the golden data, and a store of blobs in a dict."""

import functools
import json
from pathlib import Path
from typing import Any

from peatkeep.blob import Ref
from peatkeep.errors import NotFound
from peatkeep.schema.keyring import SecretKey, read_ring
from peatkeep.schema.signing import Signer

VECTORS = Path(__file__).parent.parent / "vectors" / "schema"


@functools.cache
def vectors(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


@functools.cache
def ring(name: str) -> list[SecretKey]:
    """The ring of this key of signing.json."""
    return read_ring((VECTORS / vectors("signing.json")["keys"][name]["secretFile"]).read_bytes())


def signer(name: str) -> Signer:
    return Signer(ring(name)[0])


class Blobs:
    """A Fetcher over a dict."""

    def __init__(self, *blobs: bytes) -> None:
        self.data: dict[Ref, bytes] = {Ref.of(blob): blob for blob in blobs}

    def add(self, blob: bytes) -> Ref:
        self.data[Ref.of(blob)] = blob
        return Ref.of(blob)

    def fetch(self, ref: Ref) -> bytes:
        if ref not in self.data:
            raise NotFound("fetch", ref)
        return self.data[ref]


def key_blobs(*names: str) -> Blobs:
    """A store with the key blobs of signing.json, under all their known names."""
    blobs = Blobs()
    for name in names:
        key = vectors("signing.json")["keys"][name]
        for field in ("ref", "refSha1", "refSha256"):
            if field in key:
                blobs.data[Ref(key[field])] = key["publicText"].encode()
    return blobs
