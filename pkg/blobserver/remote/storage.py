"""A server that speaks the HTTP protocol, as a Storage."""

import http.client
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple, Self, TypeVar
from urllib.parse import quote, urlencode

from ...blob import MAX_BLOB_SIZE, Ref, SizedRef, parse_ref
from ...errors import Corrupt, Forbidden, Invalid, NotFound, StoreError, Unavailable, Unsupported
from ...sorted.options import Options
from .. import framing
from ..storage import Generation, Storage
from ..unsynced import Held
from .discovery import Discovery, discover
from .line import FREE_LINE, Line
from .multipart import batches, upload_body
from .pushed import Pushed
from .transport import MAX_UNDER_WAY, Response, Transport, status_error

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from .stream import Stream

STAT_LIMIT: Final = 1000  # refs per request, the protocol's limit
REMOVE_LIMIT: Final = 999  # the thousandth makes a Perkeep server refuse
PAGE_LIMIT: Final = 1000
GETS_UNDER_WAY: Final = 10
FEW_BLOBS: Final = 16
"""Fewer are not worth opening a stream."""

LONG_LINE_S: Final = 0.03
"""The handshake of a stream takes longer where round trips are worth saving."""

MULTI_GET_REFS: Final = 500
STALLS: Final = 3
"""How often in a row a multi-get may break without having brought a blob."""

FRUITLESS_LIMIT: Final = 3
"""Requests in a row in which a server takes nothing before it counts as failing."""

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
VIVIFY = {"X-Camlistore-Vivify": "1"}

Blob = tuple[Ref, bytes]
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Uploaded(NamedTuple):
    """What became of one upload: the blobs that the server has durably, in the order given, and
    an error for each blob that it refused. `vivified`: file refs that got a permanode. `text`:
    what else the server says of what went wrong."""

    received: list[SizedRef]
    refused: list[tuple[Ref, StoreError]]
    vivified: frozenset[Ref] = frozenset()
    text: str = ""


class Remote(Storage):
    """The blobs below one prefix of a server. A blob is durable there once acknowledged.

    prefix: as discovery names it, such as `/bs/`; operations are at `<prefix>camli/`. Without
    one, the server is asked where its blobs are, and what it can do, when that is first needed.
    has_multi_get: whether the server offers `fetch-blobs`. generation: from discovery.
    line: how to use the stream, where many blobs travel; None where the server has none, or it
    is not wanted. Behind a proxy, which may let no websocket through, it is not used. is_told:
    whether the caller knows all this of the server; else it is asked, when many blobs travel.
    """

    def __init__(
        self,
        transport: Transport,
        prefix: str = "",
        *,
        has_multi_get: bool = False,
        generation: Generation | None = None,
        line: Line | None = None,
        is_told: bool = True,
    ) -> None:
        self.transport = transport
        self.line = line if line and line.over_stream and not transport.has_proxy else None
        self._stream: Stream | None = None
        self._prefix = prefix
        self._has_multi_get = has_multi_get
        self._is_told = is_told and bool(prefix)
        self._generation = generation
        self._held = Held()
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    @classmethod
    def on(
        cls,
        transport: Transport,
        found: Discovery,
        prefix: str = "",
        *,
        line: Line | None = None,
    ) -> Self:
        """The blobs below a prefix: by default the path of the server's URL, else its blobRoot.

        line: how to use the stream, where the server offers one for them; None: not at all.
        """
        own = _path_prefix(transport) or found.blob_root
        chosen = prefix or own
        return cls(
            transport,
            chosen,
            has_multi_get=found.has_multi_get,
            generation=found.generation if prefix in ("", own) else None,
            line=line if found.has_stream else None,
        )

    @classmethod
    def from_config(cls, args: Mapping[str, object], _: Callable[[str], Storage]) -> Self:
        """Arguments: url, auth; skipStartupCheck, trustedCert (optional).

        url: of the server, or with a path, of its blobs. Unless the check is skipped, one blob
        is listed: raises Unavailable, Forbidden, Corrupt. Such a store has no generation: a
        server that is running for long would not learn of a new one.
        """
        with Options("storage-remote", args) as options:
            url, auth = options.string("url"), options.string("auth")
            skips_check = options.boolean("skipStartupCheck", False)
            trusted = options.string("trustedCert", "")
        transport = Transport(url, auth, trusted_certs=[trusted] if trusted else ())
        store = cls(transport, _path_prefix(transport), line=FREE_LINE, is_told=False)
        if not skips_check:
            try:
                next(store.enumerate(), None)
            except BaseException:
                store.close()
                raise
        return store

    def __str__(self) -> str:
        if not self._prefix:
            return str(self.transport)
        return f"{self.transport.address.origin}{self._root.removesuffix('camli/')}"

    @cached_property
    def _discovery(self) -> Discovery:
        return discover(self.transport)

    @cached_property
    def _root(self) -> str:
        prefix = self._prefix or self._discovery.blob_root
        return self.transport.path_of(prefix).rstrip("/") + "/camli/"

    @property
    def has_multi_get(self) -> bool:
        self._learn()
        return self._has_multi_get

    def _learn(self) -> None:
        """Ask once what the server can do, unless it is known. Raises Unavailable."""
        with self._opening:
            if self._is_told:
                return
            try:
                found = self._discovery
            except (Corrupt, Forbidden, Invalid, NotFound, Unsupported):
                self.line = None  # its blobs may be served all the same
            else:
                self._has_multi_get = found.has_multi_get
                self.line = self.line if found.has_stream else None
            self._is_told = True

    @property
    def has_stream(self) -> bool:
        """Whether a stream is offered, and wanted."""
        return self.line is not None

    @property
    def stream_path(self) -> str:
        """Of the websocket, where there is one."""
        return f"{self._root}stream"

    def open_stream(self) -> "Stream | None":
        """The stream, open; None where the server offers none, or what lies between lets no
        websocket through. Raises Unavailable, Forbidden."""
        with self._opening:
            if self._stream is None and self.line is not None:
                from .stream import Stream  # slow to import, which most runs need not wait for

                stream = Stream(self.transport, self.stream_path, self.line)
                try:
                    stream.open()
                except Unsupported:
                    self.line = None
                else:
                    self._stream = stream
            return self._stream

    # -- reading ------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        response = self.transport.request("GET", self._root + ref, max_bytes=MAX_BLOB_SIZE)
        if response.status == 404:
            raise NotFound("fetch", ref, f"not on {self.transport}")
        if response.status == 500:
            raise Corrupt("fetch", ref, f"{self.transport} can't read it")
        if response.status != 200:
            raise self._error("fetch", ref, response)
        if not ref.matches(response.body):
            raise Corrupt("fetch", ref, f"{self.transport} sent bytes that do not match it")
        return response.body

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, framing.Found]]:
        asked = iter(refs)
        self._learn()
        if self.line is not None:
            few = list(islice(asked, FEW_BLOBS))
            asked = chain(few, asked)
            stream = self.open_stream() if len(few) == FEW_BLOBS else self._stream
            if stream is not None:
                yield from stream.fetch_many(asked)
                return
        if not self.has_multi_get:
            yield from self._in_flight(self._fetch_or_error, asked, GETS_UNDER_WAY)
            return
        while window := list(islice(asked, MULTI_GET_REFS)):
            yield from self._multi_get(window)

    def push_file(self, ref: Ref, offset: int, length: int) -> Pushed | None:
        """A source for who reads these bytes of a file in order: its blobs come unasked.

        None where there is no stream, or on a quick line: there to ask costs less than to keep
        what comes. Raises Unavailable, Forbidden.
        """
        stream = self.open_stream()
        if stream is None or stream.handshake_s < LONG_LINE_S:
            return None
        return Pushed(stream.file_blobs(ref, offset, length), self)

    def _fetch_or_error(self, ref: Ref) -> tuple[Ref, framing.Found]:
        try:
            return ref, self.fetch(ref)
        except (NotFound, Corrupt) as error:
            return ref, error

    def _multi_get(self, window: list[Ref]) -> Iterator[tuple[Ref, framing.Found]]:
        """Fetch a window; where the connection breaks, go on behind the last whole blob."""
        stalls = 0
        while window:
            count = 0
            try:
                for count, found in enumerate(self._frames(window), 1):  # noqa: B007
                    yield found
                return
            except (OSError, EOFError, http.client.HTTPException, Unavailable) as error:
                stalls = 0 if count else stalls + 1
                if stalls >= STALLS:
                    reason = f"{self.transport}: {error or 'the answer ended early'}"
                    raise Unavailable("fetch", f"{len(window)} blobs", reason) from None
                window = window[count:]

    def _frames(self, window: list[Ref]) -> Iterator[tuple[Ref, framing.Found]]:
        body = framing.request_body(window)
        path = self._root + "fetch-blobs"
        with self.transport.stream("POST", path, body, {"Content-Type": "text/plain"}) as (
            answer,
            reader,
        ):
            if answer.status != 200:
                response = Response(answer.status, answer.headers, reader.read(64 * 1024))
                raise self._error("fetch", f"{len(window)} blobs", response)
            yield from framing.read_frames(reader, window)
            reader.read(1)  # meets the end, so that the connection can be kept

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        asked = iter(dict.fromkeys(refs))
        while page := list(islice(asked, STAT_LIMIT)):
            body = "camliversion=1" + "".join(
                f"&blob{number}={ref}" for number, ref in enumerate(page, 1)
            )
            response = self.transport.request(
                "POST", self._root + "stat", body=body.encode(), headers=FORM, counted=True
            )
            if response.status != 200:
                raise self._error("stat", f"{len(page)} blobs", response)
            wanted = set(page)
            for found in self._sized_refs(self._object(response, "stat").get("stat"), "stat"):
                if found.ref in wanted:
                    wanted.discard(found.ref)
                    yield found

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        while True:
            query = urlencode({"after": after, "limit": PAGE_LIMIT, "maxwaitsec": 0})
            response = self.transport.request("GET", f"{self._root}enumerate-blobs?{query}")
            if response.status != 200:
                raise self._error("enumerate", self, response)
            page = self._object(response, "enumerate")
            for found in self._sized_refs(page.get("blobs"), "enumerate"):
                if found.ref <= after:
                    raise Corrupt("enumerate", self, f"{found.ref} came after {after}")
                after = found.ref
                yield found
            if not page.get("continueAfter"):
                return

    def generation(self) -> Generation | None:
        return self._generation

    # -- writing ------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[Blob]) -> list[SizedRef]:
        """Keep blobs in memory until `sync`: what is uploaded is durable and seen at once.

        `receive_many` is the way to bring more than fits there.
        """
        return self._held.add(blobs)

    def sync(self) -> None:
        """Upload what was written. What could not be stays, for the next call."""
        self._held.upload(self.receive_many)

    def receive_many(self, blobs: Iterable[Blob]) -> list[SizedRef]:
        """Upload in batches, several at once. Returns when all are durable on the server.

        Raises the error of the first refused blob after all others were sent.
        """
        self._learn()
        asked = iter(blobs)
        few = list(islice(asked, FEW_BLOBS)) if self.line is not None else []
        blobs = chain(few, asked)
        stream = self.open_stream() if len(few) == FEW_BLOBS else self._stream
        if stream is not None:
            answers = stream.put_many(blobs)
            errors = [error for _, error in answers if error is not None]
            if errors:
                raise errors[0]
            return [found for found, _ in answers]
        written: list[SizedRef] = []
        refused: list[tuple[Ref, StoreError]] = []
        for outcome in self._in_flight(self.upload, batches(blobs), MAX_UNDER_WAY):
            written += outcome.received
            refused += outcome.refused
        if refused:
            raise refused[0][1]
        return written

    def upload(self, batch: Sequence[Blob], vivify: bool = False) -> Uploaded:
        """Upload blobs in one request, or in more where the server refuses one of them.

        The server takes them in order and stops at the first that it refuses: the rest is sent
        again without it. vivify: have the server make a permanode for each file among them.
        """
        rest = list(batch)
        received: list[SizedRef] = []
        refused: list[tuple[Ref, StoreError]] = []
        vivified: set[Ref] = set()
        text, fruitless = "", 0
        while rest:
            response = self._post(rest, vivify)
            there, text = self._acknowledged(response)
            vivified.update(
                ref
                for value in response.headers.get_all("X-Camlistore-Vivified") or []
                if (ref := parse_ref(value.strip()))
            )
            missing: list[Blob] = []
            for ref, data in rest:
                if there.get(ref) == len(data):
                    received.append(SizedRef(ref, len(data)))
                else:
                    missing.append((ref, data))
            fruitless = 0 if there else fruitless + 1
            if missing and fruitless == FRUITLESS_LIMIT:
                # It refuses whatever comes: its disk is full, most likely.
                raise Unavailable("upload", f"{len(rest)} blobs", f"{self.transport}: {text}")
            if missing:
                (ref, _), *missing = missing
                refused.append((ref, self._refusal(ref, text)))
            rest = missing
        return Uploaded(received, refused, frozenset(vivified), text)

    def _post(self, batch: Sequence[Blob], vivify: bool) -> Response:
        body, content_type = upload_body(batch)
        headers = {"Content-Type": content_type, **(VIVIFY if vivify else {})}
        response = self.transport.request(
            "POST", self._root + "upload", body=body, headers=headers, counted=True
        )
        if response.status != 200:
            raise self._error("upload", f"{len(batch)} blobs", response)
        return response

    def _acknowledged(self, response: Response) -> tuple[dict[Ref, int], str]:
        answer = self._object(response, "upload")
        received = self._sized_refs(answer.get("received"), "upload")
        return dict(received), str(answer.get("errorText") or "").strip()

    def _refusal(self, ref: Ref, text: str) -> StoreError:
        """The error for a refused blob. What an index says of it is about its content."""
        reason = text.removeprefix(f"Error receiving blob {ref}: ")
        return Invalid("upload", ref, f"refused by {self.transport}: {reason or 'not received'}")

    def remove(self, refs: Iterable[Ref]) -> None:
        asked = iter(dict.fromkeys(refs))
        while page := list(islice(asked, REMOVE_LIMIT)):
            self._held.drop(page)
            body = "&".join(f"blob{number}={ref}" for number, ref in enumerate(page, 1))
            response = self.transport.request(
                "POST", self._root + "remove", body=body.encode(), headers=FORM
            )
            if response.status != 200:
                raise self._error("remove", f"{len(page)} blobs", response)
            answer = self._object(response, "remove")
            removed = answer.get("removed")
            missing = set(page) - set(removed if isinstance(removed, list) else ())
            if missing:
                reason = f"{self.transport}: {answer.get('error') or 'not removed'}"
                raise Forbidden("remove", min(missing), reason)

    # -- helpers ------------------------------------------------------------------------------

    def search(self, search_root: str, operation: str, query: str) -> dict[str, object]:
        """GET one of the search operations; its JSON answer."""
        root = self.transport.path_of(search_root).rstrip("/")
        path = f"{root}/camli/search/{operation}?{query}"
        response = self.transport.request("GET", path, counted=True)
        if response.status != 200:
            raise self._error("search", operation, response)
        return self._object(response, "search")

    def has_contents(self, download_helper: str, file: Ref, whole: Ref) -> bool:
        """Whether the server can still read this file whole, and its bytes have this digest."""
        root = self.transport.path_of(download_helper)
        path = f"{root}{file}/?verifycontents={quote(whole)}"
        response = self.transport.request("HEAD", path, counted=True)
        return response.status == 200 and response.headers.get("X-Camli-Contents") == whole

    def _error(self, operation: str, subject: object, response: Response) -> StoreError:
        return status_error(operation, subject, self.transport, response)

    def _object(self, response: Response, operation: str) -> dict[str, object]:
        try:
            answer = json.loads(response.body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            # Perkeep breaks off its JSON where its storage fails in the middle.
            raise Unavailable(operation, self, "the answer is no JSON object")
        return answer

    def _sized_refs(self, value: object, operation: str) -> Iterator[SizedRef]:
        if not isinstance(value, list):
            raise Corrupt(operation, self, "the answer lacks its list of blobs")
        for entry in value:
            ref = parse_ref(entry.get("blobRef")) if isinstance(entry, dict) else None
            size = entry.get("size") if isinstance(entry, dict) else None
            if ref is None or not isinstance(size, int) or size < 0:
                raise Corrupt(operation, self, f"the answer lists {str(entry)[:100]!r}")
            yield SizedRef(ref, size)

    def _in_flight(
        self, work: Callable[[_In], _Out], inputs: Iterable[_In], limit: int
    ) -> Iterator[_Out]:
        """The results of `work` on each input, in order, with up to `limit` under way."""
        with self._lock:
            if self._threads is None:
                from concurrent.futures import ThreadPoolExecutor  # brings logging along

                self._threads = ThreadPoolExecutor(GETS_UNDER_WAY, "remote")
            threads = self._threads
        waiting: deque[Future[_Out]] = deque()
        try:
            for each in inputs:
                waiting.append(threads.submit(work, each))
                if len(waiting) >= limit:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self.transport.close()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)


def _path_prefix(transport: Transport) -> str:
    """The prefix that the server's URL names itself, or ""."""
    path = transport.address.path
    return f"{path}/" if path else ""
