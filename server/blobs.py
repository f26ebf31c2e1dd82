"""The blob protocol below `<prefix>camli/`: get, put, stat, enumerate, remove, fetch-blobs."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..blob import MAX_BLOB_SIZE, Ref, SizedRef, parse_ref
from ..blobserver import framing, tarstream
from ..blobserver.hub import Hub
from ..blobserver.receive import check, receive
from ..blobserver.storage import Storage
from ..errors import Corrupt, Invalid, StoreError
from . import filechunks
from .ahead import LEAST_PAGE_BYTES, Batches, Budget, Ramp
from .answers import HttpError, bad_request, joined, raw_json, resumed, sized_json, typed
from .auth import Right
from .bridge import Bridge
from .encoding import compressed, takes_zstd
from .forms import Form, body_of, drain, form_of, query_of, whole_number
from .getting import malformed_url, ref_in_path, serve_blob
from .routes import ANY, POST, PUT, READ, Route
from .uploads import Uploads
from .waiting import MAX_WAIT_S, wait_until

STAT_LIMIT: Final = 1000
REMOVE_LIMIT: Final = 999
PAGE_LIMIT: Final = 10_000
DEFAULT_PAGE: Final = 100

TAR_WINDOW_BYTES: Final = 4 * 1024 * 1024
"""What an archive reads ahead of a client; one blob may go over it."""

_NO_DELETES = "storage *serverinit.storageAndConfig does not permit deletes"


class Blobs:
    """One storage prefix. `hubs` tell of arrivals by whatever way they came in."""

    def __init__(
        self,
        storage: Storage,
        bridge: Bridge,
        budget: Budget,
        *,
        hubs: Sequence[Hub],
        uploads: Uploads,
        deletable: bool = False,
    ) -> None:
        self._storage = storage
        self._bridge = bridge
        self._hubs = hubs
        self._uploads = uploads
        self._deletable = deletable
        self._budget = budget

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(READ, "enumerate-blobs", Right.ENUMERATE, self.enumerate),
            Route(READ, "stat", Right.ALL, self.stat),
            Route(READ, "ws", Right.ALL, unsupported),
            Route(READ, "blobs.tar", Right.GET | Right.ENUMERATE, self.tar),
            Route(READ, "file-chunks/*", Right.GET, self.file_chunks),
            Route(READ, "*", Right.GET, self.get),
            Route(POST, "stat", Right.STAT, self.stat),
            Route(POST, "upload", Right.UPLOAD, self._uploads.upload),
            Route(POST, "fetch-blobs", Right.GET, self.fetch_blobs),
            Route(POST, "remove", Right.ALL, self.remove),
            Route(PUT, "*", Right.UPLOAD, self.put),
            Route(ANY, "*", Right.ALL, unsupported),
        )

    # -- reading --------------------------------------------------------------------------------

    async def get(self, request: Request) -> Response:
        ref = ref_in_path(request.scope["path"])
        if ref is None:
            raise malformed_url()
        return await serve_blob(self._bridge, self._storage, ref, request)

    async def stat(self, request: Request) -> Response:
        form = await form_of(request)
        if not form.get("camliversion"):
            raise bad_request("camliversion is missing")
        refs = numbered_refs(form, STAT_LIMIT)
        wait_s = min(whole_number(form.get("maxwaitsec", ""), 0), MAX_WAIT_S)
        try:
            found = await self._stat(refs)
            if wait_s > 0 and len(found) < len(refs):
                missing = set(refs)

                async def look() -> bool:
                    nonlocal found
                    found = await self._stat(refs)
                    return len(found) == len(refs)

                await wait_until(look, self._hubs, wait_s, missing.__contains__)
        except StoreError:
            # Where the reference can't stat it says no more than this.
            return Response(status_code=500)
        return raw_json(stat_json(found))

    async def _stat(self, refs: list[Ref]) -> list[SizedRef]:
        return await self._bridge.call(lambda: list(self._storage.stat(refs))) if refs else []

    async def enumerate(self, request: Request) -> Response:
        query = query_of(request)
        after = query.get("after", "")
        limit = page_limit(query.get("limit", ""))
        wait_s = whole_number(query.get("maxwaitsec", ""), 0)
        if after and wait_s:
            raise HttpError(400, "Can't use 'maxwaitsec' with 'after'.")
        page = await self._bridge.call(self._page, after, limit)
        if wait_s > 0 and not page and limit:

            async def look() -> bool:
                nonlocal page
                page = await self._bridge.call(self._page, after, limit)
                return bool(page)

            await wait_until(look, self._hubs, min(wait_s, MAX_WAIT_S), lambda _: True)
        text = page_json(page, is_full=len(page) == limit > 0)
        return typed(text.encode(), "text/javascript; charset=utf-8")

    def _page(self, after: str, limit: int) -> list[SizedRef]:
        if limit == 0:
            return []
        found = self._storage.enumerate(after)
        try:
            return list(islice(found, limit))
        finally:
            close: Callable[[], None] | None = getattr(found, "close", None)
            if close is not None:
                close()

    async def fetch_blobs(self, request: Request) -> Response:
        """Many blobs in one answer (pkg/blobserver/framing.py)."""
        asked = await body_of(request, framing.MAX_REFS * framing.MAX_LINE_BYTES)
        refs = framing.parse_request(asked)
        found = windows(self._storage, refs, self._budget)
        is_packed = takes_zstd(request)
        answer = StreamingResponse(self._bridge.pages(compressed(found) if is_packed else found))
        if is_packed:
            answer.headers["Content-Encoding"] = "zstd"
        answer.headers["Content-Type"] = framing.MEDIA_TYPE
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    async def file_chunks(self, request: Request) -> Response:
        """Where the bytes of a file lie."""
        return await filechunks.answer(request, self._storage, self._bridge)

    async def tar(self, request: Request) -> Response:
        """All blobs, in the store's order (pkg/blobserver/tarstream.py)."""
        query = query_of(request)
        token, limit_bytes = query.get("token", ""), whole_number(query.get("limit", ""), 0)
        headers = {"Content-Type": tarstream.MEDIA_TYPE, "X-Content-Type-Options": "nosniff"}
        if request.method == "HEAD":
            return Response(headers=headers)
        pieces = joined(
            tarstream.archive(self._storage.stream(token), limit_bytes), TAR_WINDOW_BYTES
        )
        # The first now: what is no token can still be told.
        body = self._bridge.pages(pieces)
        first = await anext(body)
        return StreamingResponse(resumed(first, body), headers=headers)

    # -- writing --------------------------------------------------------------------------------

    async def put(self, request: Request) -> Response:
        ref = parse_ref(request.scope["path"].rpartition("/")[2])
        if ref is None or not ref.is_supported:
            raise bad_request("not a ref that bytes can be checked against")
        if whole_number(request.headers.get("content-length", ""), 0) > MAX_BLOB_SIZE:
            await drain(request)
            error = bad_request("over 16 MiB")
            error.headers["Connection"] = "close"
            raise error
        try:
            data = await body_of(request, MAX_BLOB_SIZE)
        except HttpError:
            raise bad_request("over 16 MiB") from None
        try:
            await self._bridge.call(check, ref, data)
        except (Corrupt, Invalid) as refused:
            raise bad_request(refused.reason) from None
        try:
            await self._bridge.call(self._store, ref, data)
        except Invalid as refused:
            # The bytes are what they claim to be, but the index refuses them.
            raise HttpError(500, f"Server error: {refused.reason}") from None
        return Response(status_code=204)

    def _store(self, ref: Ref, data: bytes) -> None:
        receive(self._storage, ref, data)

    async def remove(self, request: Request) -> Response:
        if not self._deletable:
            return raw_json(remove_json(None, _NO_DELETES), 403)
        refs = numbered_refs(await form_of(request), REMOVE_LIMIT)
        await self._bridge.call(self._storage.remove, refs)
        return raw_json(remove_json(refs, ""))


async def unsupported(request: Request) -> Response:
    raise bad_request(f"no operation {request.method} here")


def windows(storage: Storage, refs: Sequence[Ref], budget: Budget) -> Iterator[bytes]:
    """The frames for these blobs, a bounded number of bytes at a time."""
    batches, ramp = Batches(storage), Ramp(LEAST_PAGE_BYTES)
    begin = 0
    with budget.reading():
        while begin < len(refs):
            page_bytes = ramp.next(budget.page_bytes)
            asked = refs[begin : begin + batches.count(page_bytes)]
            found = batches.fetch(asked, page_bytes)
            begin += len(found)
            page = b"".join(framing.frames(zip(asked, found, strict=False)))
            del found  # who reads nothing should not hold everything twice
            yield page


def numbered_refs(form: Form, limit: int) -> list[Ref]:
    """`blob1`, `blob2`, … up to the first gap, each once. 400 over the limit or for no ref."""
    refs: dict[Ref, None] = {}
    number = 1
    while text := form.get(f"blob{number}"):
        ref = parse_ref(text)
        if ref is None:
            raise bad_request(f"blob{number} is no ref")
        if number > limit:
            raise bad_request(f"more than {limit} refs")
        refs[ref] = None
        number += 1
    return list(refs)


_DIGITS = re.compile(r"\d{1,19}", re.ASCII)


def page_limit(text: str) -> int:
    """How many refs a page holds: absent means 100; junk and what is too large, the most."""
    if text == "":
        return DEFAULT_PAGE
    return min(int(text), PAGE_LIMIT) if _DIGITS.fullmatch(text) else PAGE_LIMIT


def stat_json(found: Iterable[SizedRef]) -> str:
    return f'{{\n  "stat": {sized_json(found)},\n  "canLongPoll": true\n}}\n'


def page_json(page: Sequence[SizedRef], *, is_full: bool) -> str:
    lines = ",\n".join(f'    {{"blobRef": "{ref}", "size": {size}}}' for ref, size in page)
    more = f'  "continueAfter": "{page[-1].ref}",\n' if is_full else ""
    return f'{{\n  "blobs": [\n{lines}\n  ],\n{more}  "canLongPoll": true\n}}\n'


def remove_json(refs: Sequence[Ref] | None, error: str) -> str:
    items = "".join(f'\n    "{ref}",' for ref in refs or ())
    removed = "null" if refs is None else f"[{items[:-1]}\n  ]" if refs else "[]"
    return f'{{\n  "removed": {removed},\n  "error": "{error}"\n}}\n'
