"""The checked door: the only way by which foreign bytes enter a store."""

from collections.abc import Iterable

from ..blob import MAX_BLOB_SIZE, Ref, SizedRef
from ..errors import Corrupt, Invalid, TooLarge
from .hub import Hub
from .storage import Storage


def check(ref: Ref, data: bytes) -> None:
    """Raise TooLarge, Invalid (unknown hash) or Corrupt unless these bytes have this name."""
    if len(data) > MAX_BLOB_SIZE:
        raise TooLarge("receive", ref, f"{len(data)} bytes are over the {MAX_BLOB_SIZE} of a blob")
    if not ref.is_supported:
        raise Invalid("receive", ref, "unknown hash: bytes can't be checked against it")
    if not ref.matches(data):
        raise Corrupt("receive", ref, "the bytes have another digest")


def receive_many(
    storage: Storage, blobs: Iterable[tuple[Ref, bytes]], hub: Hub | None = None
) -> list[SizedRef]:
    """Check and store blobs durably, then tell the hub. In the order given.

    All are checked before any is written, so a bad one refuses the batch. An error of a hook
    goes to the caller; the blobs stay stored.
    """
    batch = list(blobs)
    for ref, data in batch:
        check(ref, data)
    stored = storage.receive_many(batch)
    if hub is not None:
        hub.notify(batch)
    return stored


def receive(storage: Storage, ref: Ref, data: bytes, hub: Hub | None = None) -> SizedRef:
    """Check and store one blob durably, then tell the hub."""
    return receive_many(storage, [(ref, data)], hub)[0]
