"""The handshake of a websocket (RFC 6455, 4), from the client's side. Pure."""

import base64
import hashlib
import secrets
from http.client import HTTPException, HTTPMessage, parse_headers
from io import BytesIO
from typing import TYPE_CHECKING, Final

from ...errors import Forbidden, StoreError, Unavailable, Unsupported

if TYPE_CHECKING:
    from .address import Address

HEAD_BYTES: Final = 64 * 1024
"""The longest answer, without what follows it."""

_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BLANK_LINE: Final = b"\r\n\r\n"
_REFUSALS: Final = {401: Forbidden, 403: Forbidden, 429: Unavailable}


class Handshake:
    """Asks for a websocket, and judges the answer.

    path: absolute, with the query. authorization: the header's value, or "".
    """

    def __init__(self, address: "Address", path: str, authorization: str) -> None:
        self._address = address
        self._key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._came = b""
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {address.authority}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self._key}",
            "Sec-WebSocket-Version: 13",
        ]
        if authorization:
            lines.append(f"Authorization: {authorization}")
        self.request: Final = ("\r\n".join(lines)).encode() + _BLANK_LINE

    def feed(self, data: bytes | memoryview) -> bytes | None:
        """Take bytes from the socket, b"" at their end; once it is done, what follows the answer.

        Raises why it was refused: Forbidden, Unsupported (no websocket there), Unavailable.
        """
        if not len(data):
            raise self._refused(Unavailable, "the connection was cut")
        self._came += data
        head, found, rest = self._came.partition(_BLANK_LINE)
        if found:
            self._judge(head + _BLANK_LINE)
            return rest
        if len(self._came) > HEAD_BYTES:
            raise self._refused(Unsupported, "no end to the answer's headers")
        return None

    def _judge(self, head: bytes) -> None:
        """Raises unless this is the answer to our request."""
        line, _, headers = head.partition(b"\r\n")
        version, _, result = line.decode("latin-1").partition(" ")
        status, _, reason = result.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isdecimal() and len(status) == 3):
            raise self._refused(Unsupported, "did not receive a valid HTTP response")
        if status != "101":
            passing = status in ("502", "503", "504")
            kind = _REFUSALS.get(int(status), Unavailable if passing else Unsupported)
            raise self._refused(kind, f"{status} {reason}")
        try:
            fields = parse_headers(BytesIO(headers))
        except HTTPException:
            raise self._refused(Unsupported, "did not receive a valid HTTP response") from None
        wrong = self._wrong(fields)
        if wrong:
            raise self._refused(Unsupported, wrong)

    def _wrong(self, fields: HTTPMessage) -> str:
        """What is wrong with the headers of an answer that agrees; "" if nothing is."""
        if "upgrade" not in _words(fields, "Connection"):
            return "invalid Connection header"
        if _words(fields, "Upgrade") != ["websocket"]:
            return "invalid Upgrade header"
        digest = hashlib.sha1((self._key + _GUID).encode(), usedforsecurity=False).digest()
        accepted = [value.strip() for value in fields.get_all("Sec-WebSocket-Accept", [])]
        if accepted != [base64.b64encode(digest).decode()]:
            return "invalid Sec-WebSocket-Accept header"
        if "Sec-WebSocket-Extensions" in fields or "Sec-WebSocket-Protocol" in fields:
            return "an extension or a subprotocol that nobody asked for"
        return ""

    def _refused(self, kind: type[StoreError], reason: str) -> StoreError:
        return kind("open stream to", str(self._address), reason)


def _words(fields: HTTPMessage, name: str) -> list[str]:
    """The words of a header that is a list, in lower case."""
    values = ",".join(fields.get_all(name, []))
    return [word.strip().lower() for word in values.split(",")]
