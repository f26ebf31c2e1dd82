"""Websockets: which requests become one, and peers that do not take what they are sent.

uvicorn upgrades whatever asks for it; here only a sound handshake at a place for websockets does,
so that all others get an ordinary answer. A socket that is not read is cut off.
"""

import asyncio
import base64
import binascii
import logging
from typing import Any, Final

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

PING_EVERY_S: Final = 54
PONG_WAIT_S: Final = 6
"""Together a minute of silence, after which the peer counts as gone."""

MESSAGE_BYTES: Final = 10 * 1024
"""The longest message that a client may send."""

WRITE_WAIT_S: Final = 10
"""How long a peer may leave a message untouched."""

VERSION: Final = "13"
NO_HANDSHAKE: Final = "Not a websocket handshake"
VERSION_HEADER: Final = {"Sec-Websocket-Version": VERSION}

log = logging.getLogger("peatkeep.server.sockets")
# uvicorn tells of each socket with its URL, in which there may be a token.
log.setLevel(logging.WARNING)


class LimitedSocket(WebSocketsSansIOProtocol):
    """A websocket with a deadline for what is written."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.logger = log

    async def send(self, message: ASGISendEvent) -> None:
        try:
            async with asyncio.timeout(WRITE_WAIT_S):
                await self.writable.wait()
        except TimeoutError:
            self.transport.abort()
            raise ClientDisconnected from None
        await super().send(message)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # What is still to be written would keep the socket open.
        self.transport.abort()


def is_sound(method: str, headers: dict[bytes, bytes]) -> bool:
    """Whether a request that asks for a websocket is a handshake of the version that we speak.

    headers: lower-case names.
    """
    try:
        key = base64.b64decode(headers.get(b"sec-websocket-key", b""), validate=True)
    except binascii.Error:
        return False
    return (
        method == "GET"
        and len(key) == 16
        and headers.get(b"sec-websocket-version") == VERSION.encode()
    )
