"""Searches that stay open: answers over a websocket, anew whenever they have changed.

Messages are those of server/README.md, "Live searches". A connection owns no queue: it holds its
queries, and which of them are due, so a reader who is slow or gone costs what one answer does.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..blob import Ref
from ..errors import StoreError
from ..index.index import Index
from ..search.standing import Arrivals, Standing
from .answers import compact_json
from .bridge import Bridge

log = logging.getLogger("peatkeep.server")

MOST_CONNECTIONS: Final = 200
MOST_QUERIES: Final = 50
"""Standing queries of one connection; further tags are passed over."""

MOST_ANSWER_CHARACTERS: Final = 32 * 1024 * 1024
"""A longer answer is not sent."""

QUIET_S: Final = 0.05
"""What arrives within this time is looked at together."""

_MOVING = re.compile(r'"lastCopySecondsAgo":[0-9]+')
"""What alone is no news in a status."""

Status = Callable[[], dict[str, object] | None]
"""What the status page says now; None while it is not known."""


class LiveSearches:
    """The live searches over one index."""

    def __init__(self, index: Index, bridge: Bridge, status: Status) -> None:
        self._index = index
        self._bridge = bridge
        self._status = status
        self._connections = 0

    @property
    def is_full(self) -> bool:
        return self._connections >= MOST_CONNECTIONS

    def answer(self) -> Response:
        """The answer to a sound handshake: the conversation."""
        return _Conversation(self._converse)

    async def _converse(self, socket: WebSocket) -> None:
        self._connections += 1
        loop = asyncio.get_running_loop()
        connection = _Connection(self._index, self._bridge, self._status, socket)

        def on_change(changed: set[Ref]) -> None:
            connection.arrivals.add(changed)
            loop.call_soon_threadsafe(connection.due.set)

        forget = self._index.watch(on_change)
        try:
            await socket.accept()
            await connection.run()
        finally:
            forget()
            self._connections -= 1


class _Conversation(Response):
    """An answer that is a websocket."""

    def __init__(self, converse: Callable[[WebSocket], Any]) -> None:
        super().__init__()
        self._converse = converse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._converse(WebSocket(scope, receive, send))


class _Connection:
    """One client. A task reads what it wants, another answers."""

    def __init__(self, index: Index, bridge: Bridge, status: Status, socket: WebSocket) -> None:
        self.arrivals: Final = Arrivals(index)
        self.due: Final = asyncio.Event()
        self._index = index
        self._bridge = bridge
        self._status = status
        self._socket = socket
        self._queries: dict[str, Standing] = {}
        self._fresh: dict[str, Standing] = {}  # not answered yet
        self._last_status = ""

    async def run(self) -> None:
        """Until the client goes, or the server ends."""
        answering = asyncio.create_task(self._answer_all())
        reading = asyncio.create_task(self._read_all())
        try:
            await asyncio.wait((answering, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, reading):
                task.cancel()
            results = await asyncio.gather(answering, reading, return_exceptions=True)
        for result in results:
            gone = (asyncio.CancelledError, WebSocketDisconnect)
            if isinstance(result, BaseException) and not isinstance(result, gone):
                raise result

    # -- reading --------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            self._take(message.get("text") or "")

    def _take(self, text: str) -> None:
        """Subscribe or unsubscribe; what can't be read is passed over, as clients expect."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return
        tag = message.get("tag") if isinstance(message, dict) else None
        if not isinstance(tag, str):
            return
        query = message.get("query")
        if query is None:
            self._queries.pop(tag, None)
            self._fresh.pop(tag, None)
        elif isinstance(query, dict) and (
            tag in self._queries or len(self._queries) < MOST_QUERIES
        ):
            self._queries[tag] = self._fresh[tag] = Standing(self._index, query)
            self.due.set()

    # -- answering ------------------------------------------------------------------------------

    async def _answer_all(self) -> None:
        await self._send_status(is_first=True)
        while True:
            await self.due.wait()
            self.due.clear()
            started_s = time.monotonic()
            # Taken first: what came before a fresh query is in its answer.
            changed = await self._bridge.call(self.arrivals.take)
            fresh, self._fresh = self._fresh, {}
            for tag, query in fresh.items():
                await self._send(tag, query)
            if changed is None or changed:
                standing = {tag: self._queries[tag] for tag in self._queries.keys() - fresh.keys()}
                await self._send_changed(standing, changed)
            await self._send_status(is_first=False)
            # Whoever asks much waits as long as it took: at most half a thread is his.
            await asyncio.sleep(max(QUIET_S, time.monotonic() - started_s))

    async def _send_changed(
        self, standing: Mapping[str, Standing], changed: set[Ref] | None
    ) -> None:
        for tag, query in standing.items():
            if self._queries.get(tag) is query and await self._bridge.call(
                query.could_change, changed, time.time_ns()
            ):
                await self._send(tag, query)

    async def _send(self, tag: str, query: Standing) -> None:
        """Send the answer if it is new. A query that fails has none."""
        try:
            text = await self._bridge.call(query.ask, time.time_ns())
        except StoreError as error:
            log.debug("live search: %s", error)
            return
        if text is None or self._queries.get(tag) is not query:
            return
        if len(text) > MOST_ANSWER_CHARACTERS:
            log.warning("a live search has an answer of %d characters: not sent", len(text))
            return
        await self._socket.send_text(f'{{"tag":{compact_json(tag)},"result":{text}}}')

    async def _send_status(self, *, is_first: bool) -> None:
        status = await self._bridge.call(self._status)
        if status is None:
            if is_first:
                await self._socket.send_text("")
            return
        text = compact_json({"tag": "_status", "status": status})
        steady = _MOVING.sub("", text)
        if steady != self._last_status:
            self._last_status = steady
            await self._socket.send_text(text)
