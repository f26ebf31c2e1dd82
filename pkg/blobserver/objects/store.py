"""Blobs as objects of a bucket, one each."""

import base64
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, Self

from ...blob import MAX_BLOB_SIZE, Ref, SizedRef, parse_ref
from ...errors import Corrupt, Forbidden, NotFound, ReadOnly, StoreError
from ..fanout import streamed_by_ref
from ..storage import Generation, Storage, StreamedBlob, check_range
from ..unsynced import Held
from .bucket import OWN_FOLDER, Bucket, Entry

GENERATION_KEY: Final = OWN_FOLDER + "generation"

_REMEMBERED: Final = 32_768
"""Objects read and found right, whose ranges are then read alone. About 8 MB."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9-]*")

_EXPLANATION: Final = b"""

The line above names this incarnation of the blobs beside this folder. Clients remember which blobs
they have stored, under that name. If blobs are ever lost, delete this object: the store then takes
a new name, and clients check again what is missing. Keep it in every other case.
"""


class Objects(Storage):
    """The blob REF is the object `<prefix>REF`. What the service acknowledges is durable.

    Blobs that are written and not synced are kept in memory: services know no barrier.
    The bucket is closed with the store.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()
        self._held = Held()
        self._verified: OrderedDict[Ref, Entry] = OrderedDict()

    @classmethod
    def _opened(cls, bucket: Bucket, is_checked: bool) -> Self:
        """On a bucket that is there, where that is to be checked."""
        if is_checked:
            try:
                bucket.check()
            except StoreError:
                bucket.close()
                raise
        return cls(bucket)

    @property
    def bucket(self) -> Bucket:
        return self._bucket

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        try:
            entry, data = self._bucket.get(ref, MAX_BLOB_SIZE)
        except NotFound as error:
            raise NotFound("fetch", ref, str(error.subject)) from None
        if entry.size > MAX_BLOB_SIZE or not ref.matches(data):
            reason = f"{self._bucket.name_of(ref)}: the bytes have another digest"
            raise Corrupt("fetch", ref, reason)
        with self._lock:
            self._verified.pop(ref, None)
            self._verified[ref] = entry
            if len(self._verified) > _REMEMBERED:
                self._verified.popitem(last=False)
        return data

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        """Reads the range alone when this process has verified the object as it is now."""
        known = self._verified.get(ref)
        if known is not None:
            check_range(ref, offset, length, known.size)
            if offset < known.size and length > 0 and known.tag:
                found = self._bucket.get_range(ref, offset, length)
                if found is not None and found[0] == known:
                    return found[1]
        return super().fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        if offset >= 0 and length > 0:
            found = self._bucket.get_range(ref, offset, length)
            if found is not None:
                return found[1]
        check_range(ref, offset, length, self._bucket.head(ref).size)
        return b""

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        yield from self._bucket.parallel(self._fetch_or_error, refs)

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        found = self._bucket.parallel(self._stat_or_none, dict.fromkeys(refs))
        yield from (one for one in found if one is not None)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        """Raises Corrupt where the service does not list in order."""
        last = after
        plain = _PLAIN.match(after)
        for entry in self._bucket.entries(plain.group() if plain else ""):
            ref = parse_ref(entry.key)
            if ref is None or ref <= after:
                continue  # a key deeper down, or of somebody else's
            if ref <= last:
                reason = f"behind {last}: the service does not list in order"
                raise Corrupt("list", self._bucket.name_of(ref), reason)
            last = ref
            yield SizedRef(ref, entry.size)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return streamed_by_ref(self, token)

    def _fetch_or_error(self, ref: Ref) -> tuple[Ref, bytes | NotFound | Corrupt]:
        try:
            return ref, self.fetch(ref)
        except (NotFound, Corrupt) as error:
            return ref, error

    def _stat_or_none(self, ref: Ref) -> SizedRef | None:
        try:
            return SizedRef(ref, self._bucket.head(ref).size)
        except NotFound:
            return None

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Keeps the blobs in memory until `sync`."""
        return self._held.add(blobs)

    def sync(self) -> None:
        """Upload what was written. What could not be stays, for the next call."""
        self._held.upload(self.receive_many)

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Upload side by side. When one fails, some of the others are stored all the same."""
        batch = dict(given := list(blobs))
        for _ in self._bucket.parallel(lambda blob: self._bucket.put(*blob), batch.items()):
            pass
        return [SizedRef(ref, len(data)) for ref, data in given]

    def remove(self, refs: Iterable[Ref]) -> None:
        gone = list(dict.fromkeys(refs))
        self._held.drop(gone)
        with self._lock:
            for ref in gone:
                self._verified.pop(ref, None)
        if gone:
            self._bucket.delete(gone)

    # -- generation -----------------------------------------------------------------------------

    def generation(self) -> Generation | None:
        """Begun when it is first asked for; None where there is none and it can't be stored."""
        try:
            return self._read_generation()
        except NotFound:
            pass
        try:
            self._bucket.put_new(GENERATION_KEY, _new_generation())
        except (Forbidden, ReadOnly):
            return None
        return self._read_generation()

    def reset_generation(self) -> None:
        self._bucket.put(GENERATION_KEY, _new_generation())

    def _read_generation(self) -> Generation:
        entry, data = self._bucket.get(GENERATION_KEY)
        token = data.partition(b"\n")[0].strip().decode("utf-8", "replace")
        return Generation(entry.changed, token)

    def close(self) -> None:
        self._bucket.close()


def _new_generation() -> bytes:
    token = base64.b32encode(secrets.token_bytes(17))[:26]
    return token + _EXPLANATION
