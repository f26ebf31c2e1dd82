"""Fetching through a share link: every request shows the way from the share to the blob."""

import re
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from urllib.parse import urlsplit

from ...blob import MAX_BLOB_SIZE, Ref, parse_ref
from ...errors import Corrupt, Forbidden, Invalid, NotFound
from ..framing import Found
from .transport import Transport, status_error

_REF = re.compile(rb"[a-z][a-z0-9]*-[0-9a-f]{1,256}", re.ASCII)
MAX_SCHEMA_BYTES = 1024 * 1024
FETCHED_AT_ONCE = 10


def split_share_url(url: str) -> tuple[str, str, Ref]:
    """Server URL, path of the share handler, and the ref in a share URL. Raises Invalid."""
    parts = urlsplit(url)
    base, _, last = parts.path.rstrip("/").rpartition("/")
    ref = parse_ref(last)
    if parts.scheme not in ("http", "https") or not parts.netloc or ref is None:
        raise Invalid("use share URL", url, "want http(s)://host/…/<ref of the share>")
    return f"{parts.scheme}://{parts.netloc}", base, ref


class ShareFetcher:
    """A Fetcher for what a share claim gives access to. Safe to use from many threads.

    Each fetched blob that may be schema teaches which blobs it links to: those are asked for
    with `via=` the chain from the share down to it. No credentials are sent.
    """

    def __init__(self, transport: Transport, base: str, share: Ref) -> None:
        self._transport = transport
        self._base = base
        self.share = share
        self._parents: dict[Ref, Ref] = {}
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def target(self) -> Ref:
        """The ref that the share claim names. Raises NotFound for a share of a search."""
        import json

        try:
            claim = json.loads(self.fetch(self.share))
        except ValueError:
            claim = None
        if not isinstance(claim, dict) or claim.get("claimType") != "share":
            raise Invalid("fetch", self.share, "is no share claim")
        target = parse_ref(claim.get("target"))
        if target is None:
            raise NotFound("find target of", self.share, "the share names no blob")
        return target

    def fetch(self, ref: Ref) -> bytes:
        """Return the blob, verified. Raises NotFound, Forbidden, Corrupt, Unavailable."""
        path = f"{self._base}/{ref}"
        via = ",".join(self._chain(ref))
        response = self._transport.request(
            "GET", f"{path}?via={via}" if via else path, max_bytes=MAX_BLOB_SIZE
        )
        if response.status == 401:
            reason = "the share is unknown, has ended, or does not reach this blob"
            raise Forbidden("fetch", ref, f"{self._transport}: {reason}")
        if response.status != 200:
            raise status_error("fetch", ref, self._transport, response)
        if not ref.matches(response.body):
            raise Corrupt("fetch", ref, "the bytes received do not match the ref")
        self._learn(ref, response.body)
        return response.body

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]:
        """As of a Storage: each blob in the order asked for, an absent one as its error."""
        asked = iter(refs)
        while window := list(islice(asked, FETCHED_AT_ONCE)):
            yield from self._threads().map(self._fetch_or_error, window)

    def _fetch_or_error(self, ref: Ref) -> tuple[Ref, Found]:
        try:
            return ref, self.fetch(ref)
        except (NotFound, Corrupt) as error:
            return ref, error

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(FETCHED_AT_ONCE, "share")
            return self._executor

    def close(self) -> None:
        self._transport.close()
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def _chain(self, ref: Ref) -> list[Ref]:
        """The refs from the share to the parent of `ref`."""
        chain: list[Ref] = []
        with self._lock:
            # Parents are learned from the share down and never replaced: no cycle.
            while (parent := self._parents.get(ref)) is not None:
                chain.append(parent)
                ref = parent
        return chain[::-1]

    def _learn(self, parent: Ref, data: bytes) -> None:
        if data.lstrip()[:1] != b"{":
            return
        with self._lock:
            if parent != self.share and parent not in self._parents:
                return
            for match in _REF.finditer(data[:MAX_SCHEMA_BYTES]):
                child = parse_ref(match[0].decode())
                if child is not None and child not in (parent, self.share):
                    self._parents.setdefault(child, parent)
