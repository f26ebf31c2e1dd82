"""A bucket of any service: its objects by key, with errors of our tree that name both."""

import io
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore

from ...errors import Forbidden, NotFound, StoreError, Unavailable

OWN_FOLDER: Final = "peatkeep/"
"""Below the prefix: what is ours and no blob. Perkeep looks past keys with a further slash."""

PART_BYTES: Final = 8 * 1024 * 1024
"""Of an upload in parts; what is not larger goes in one request."""

PARTS_AT_ONCE: Final = 4

_LARGE_BYTES: Final = 2 * 1024 * 1024

_DELETE_LIMIT: Final = 1000
_DELETE_WAITS_S: Final = (0.05, 0.2, 1.0)
_REASON_LENGTH: Final = 300

# obstore tells statuses by class for single objects only; for listings they are in the text.
_STATUS: Final = re.compile(r"status code: (\d{3})")

T = TypeVar("T")
R = TypeVar("R")


class Limits(NamedTuple):
    """How much is asked of a service, and for how long."""

    requests_at_once: int = 16
    retries: int = 8  # of one request that failed with 429 or 5xx, or was cut off
    retry_s: float = 120  # after the first try of a request, none begins later
    timeout_s: float = 60  # for one request, its body included


class Entry(NamedTuple):
    """An object without its content. tag: another one whenever the content is another."""

    key: str
    size: int  # bytes
    tag: str
    changed: datetime


class Bucket:
    """Keys are below `prefix`, which is empty or ends in a slash. Safe to use from many threads.

    Absent means that the service said so of the object and that the bucket is there: a bucket
    that is gone is Unavailable, so that nobody takes its blobs for deleted.

    address: names the bucket in errors, `s3://name`. deletes_in_bulk: 1000 keys a request.
    """

    def __init__(
        self,
        store: ObjectStore,
        address: str,
        prefix: str = "",
        limits: Limits | None = None,
        deletes_in_bulk: bool = True,
    ) -> None:
        self._store = store
        self._address = address
        self._prefix = prefix
        self._deletes_in_bulk = deletes_in_bulk
        at_once = (limits or Limits()).requests_at_once
        self._gate = threading.BoundedSemaphore(at_once)
        self._at_once = at_once
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="objects")

    def name_of(self, key: str) -> str:
        return f"{self._address}/{self._prefix}{key}"

    def check(self) -> None:
        """Raise Unavailable or Forbidden unless the bucket is there and lets us list it."""
        # A listing, because a request for an object answers 404 for a bucket that is gone too.
        with self._asking("list", OWN_FOLDER):
            next(iter(obstore.list(self._store, self._prefix + OWN_FOLDER)), None)

    def put(self, key: str, data: bytes) -> None:
        """Store an object durably, all or nothing; replaces one that is there."""
        with self._asking("store", key):
            obstore.put(
                self._store, self._prefix + key, data, use_multipart=len(data) > PART_BYTES,
                chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE,
            )  # fmt: skip

    def put_new(self, key: str, data: bytes) -> bool:
        """Store a small object unless there is one with this key; False if there is."""
        try:
            with self._asking("store", key):
                obstore.put(
                    self._store, self._prefix + key, data, mode="create", use_multipart=False
                )
        except AlreadyExistsError:
            return False
        return True

    def put_stream(self, key: str, pieces: Iterable[bytes]) -> None:
        """Store an object of any size, in parts as its pieces come."""
        with self._asking("store", key):
            obstore.put(
                self._store, self._prefix + key, iter(pieces), use_multipart=True,
                chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE,
            )  # fmt: skip

    def get(self, key: str, size_limit: int | None = None) -> tuple[Entry, bytes]:
        """Return an object; of one over the limit, in bytes, its entry and b""."""
        with self._asking("fetch", key):
            answer = obstore.get(self._store, self._prefix + key)
            entry = self._entry(answer.meta)
            if size_limit is not None and entry.size > size_limit:
                return entry, b""
            return entry, _content(answer, entry.size)

    def get_stream(self, key: str) -> Iterator[bytes]:
        """Yield the pieces of an object of any size."""
        with self._asking("fetch", key):
            pieces = iter(obstore.get(self._store, self._prefix + key).stream())
        while True:
            with self._asking("fetch", key):
                piece = next(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    def get_range(self, key: str, offset: int, length: int) -> tuple[Entry, bytes] | None:
        """Return up to `length` bytes, at least 1; None where the object ends at or before."""
        try:
            with self._asking("fetch", key):
                answer = obstore.get(
                    self._store, self._prefix + key, options={"range": (offset, offset + length)}
                )
                return self._entry(answer.meta), answer.bytes().to_bytes()
        except _OutOfRange:
            return None

    def head(self, key: str) -> Entry:
        with self._asking("find", key):
            return self._entry(obstore.head(self._store, self._prefix + key))

    def entries(self, after: str) -> Iterator[Entry]:
        """Yield the objects with keys behind `after` as the service lists them: in key order.

        after: of letters, digits and `-` only; other signs would be escaped.
        """
        offset = self._prefix + after if after else None
        with self._asking("list", after):
            listing = obstore.list(
                self._store, self._prefix or None, offset=offset, chunk_size=1000
            )
            pages = iter(listing)
        while True:
            with self._asking("list", after):
                page = next(pages, None)
            if page is None:
                return
            for meta in page:
                entry = self._entry(meta)
                after = entry.key
                yield entry

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; absent ones are no error."""
        if self._deletes_in_bulk:
            pages = [keys[at : at + _DELETE_LIMIT] for at in range(0, len(keys), _DELETE_LIMIT)]
            list(self.parallel(self._delete_page, pages))
        else:
            list(self.parallel(self._delete_one, keys))

    def parallel(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield `work(item)` in order, with as many under way as requests are allowed.

        An error is raised where its result would have come, after what is under way is done.
        """
        rest = iter(items)
        under_way: list[Future[R]] = [
            self._threads.submit(work, item) for item in islice(rest, self._at_once)
        ]
        try:
            while under_way:
                result = under_way.pop(0).result()
                under_way += [self._threads.submit(work, item) for item in islice(rest, 1)]
                yield result
        finally:
            for future in under_way:
                if not future.cancel():
                    future.exception()

    def close(self) -> None:
        self._threads.shutdown()

    def _delete_page(self, keys: Sequence[str]) -> None:
        # The request as a whole succeeds, so obstore does not repeat it for a key that failed:
        # Ceph, for one, fails those that somebody else deletes at the same time.
        for wait_s in _DELETE_WAITS_S:
            try:
                return self._try_delete(keys)
            except Unavailable:
                time.sleep(wait_s)
        return self._try_delete(keys)

    def _try_delete(self, keys: Sequence[str]) -> None:
        with self._asking("delete", f"{keys[0]} and {len(keys) - 1} more"):
            obstore.delete(self._store, [self._prefix + key for key in keys])

    def _delete_one(self, key: str) -> None:
        try:
            with self._asking("delete", key):
                obstore.delete(self._store, self._prefix + key)
        except NotFound:
            pass

    def _entry(self, meta: "obstore.ObjectMeta") -> Entry:
        key = meta["path"].removeprefix(self._prefix)
        return Entry(key, meta["size"], meta["e_tag"] or "", meta["last_modified"])

    @contextmanager
    def _asking(self, operation: str, key: str) -> Iterator[None]:
        """One request: waits for its turn, translates its failure."""
        try:
            with self._gate:
                yield
            return
        except AlreadyExistsError:
            raise
        except FileNotFoundError:
            pass
        except (BaseError, OSError, ValueError) as error:
            raise _translated(operation, self.name_of(key), error) from None
        if operation == "list":
            raise Unavailable(operation, self.name_of(key), "there is no such bucket")
        self.check()
        if operation == "store":
            raise Unavailable(operation, self.name_of(key), "the bucket was away just now")
        raise NotFound(operation, self.name_of(key))


def _content(answer: "obstore.GetResult", size_bytes: int) -> bytes:
    if size_bytes < _LARGE_BYTES:
        return answer.bytes().to_bytes()
    # As pieces come: a buffer of obstore's and a copy of it would be twice as much fresh memory,
    # whose first touch costs more processor time than all the rest.
    content = io.BytesIO()
    for piece in answer.stream(min_chunk_size=1):
        content.write(piece)
    return content.getvalue()


class _OutOfRange(StoreError):
    """The range begins at the end of the object, or behind it."""


def _translated(operation: str, name: str, error: Exception) -> StoreError:
    text = str(error).partition("\n")[0]
    found = _STATUS.search(text)
    status = found.group(1) if found else ""
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in ("401", "403"):
        return Forbidden(operation, name, "the service refuses these credentials" + _code(text))
    if status == "404":  # only of listings: of objects it is a FileNotFoundError
        return Unavailable(operation, name, "there is no such bucket")
    if status == "416":
        return _OutOfRange(operation, name)
    if status:
        return Unavailable(operation, name, f"the service answers {status}" + _code(text))
    return Unavailable(operation, name, text[-_REASON_LENGTH:])


def _code(text: str) -> str:
    """The code in the body of an error answer, which is XML, or ""."""
    found = re.search(r"<Code>(\w{1,60})</Code>", text)
    return f" ({found.group(1)})" if found else ""
