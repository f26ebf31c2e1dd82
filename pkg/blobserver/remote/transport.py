"""Requests to one server over a pool of kept-alive connections."""

import http.client
import io
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from ...errors import (
    Forbidden,
    Invalid,
    NotFound,
    StoreError,
    TooLarge,
    Unavailable,
    Unsupported,
)
from .address import Address, Proxy, authorization, parse_url, proxy_for
from .line import FREE_LINE, Line
from .throttle import Throttle

if TYPE_CHECKING:
    import ssl

MAX_UNDER_WAY: Final = 5
"""Stat, upload, search and helper requests under way at once; what Perkeep's clients keep to."""

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
CONNECT_TIMEOUT_S: Final = 15.0
ANSWER_TIMEOUT_S: Final = 180.0
RETRY_WAITS_S: Final = (0.2, 1.0, 4.0)
"""Waits before the second, third and fourth attempt where a retry may help."""

RETRIED: Final = frozenset({429, 502, 503, 504})
MAX_REDIRECTS: Final = 5
FINGERPRINT_DIGITS: Final = 20

Connection = http.client.HTTPConnection
Body = bytes | Sequence[bytes]
"""A request's body, whole or in pieces."""


class Response(NamedTuple):
    """A whole answer. Header names compare without regard to case."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class _Stale(Exception):
    """A kept-alive connection turned out to be closed: nothing was answered on it."""


class Transport:
    """Sends requests to one server. Safe to use from many threads.

    url: the server's, with the path that requests are relative to, if any.
    auth: an auth string as configurations have it; "" sends no credentials.
    trusted_certs: where not empty, the server's certificate must have one of these
    fingerprints (first 20 hex digits of SHA-256 of the DER form) and nothing else is verified.
    insecure: accept any certificate. proxies: an environment, as `proxy_for` reads it.
    line: how fast bodies may go, of all requests together.

    A request is repeated at once when its kept-alive connection had gone stale, and up to three
    times, after waits, when the server can't be reached or asks for it (429, 502, 503, 504).
    Requests of this protocol may all be repeated. A server that never answered is not retried.
    """

    def __init__(
        self,
        url: str,
        auth: str = "",
        *,
        trusted_certs: Sequence[str] = (),
        insecure: bool = False,
        proxies: Mapping[str, str] | None = None,
        line: Line = FREE_LINE,
        retry_waits_s: Sequence[float] = RETRY_WAITS_S,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.address: Address = parse_url(url)
        self._authorization = authorization(auth)
        self._trusted_certs = tuple(cert.lower() for cert in trusted_certs)
        self._insecure = insecure
        self._proxy: Proxy | None = proxy_for(self.address, proxies or {})
        self._retry_waits_s = tuple(retry_waits_s)
        self._answer_timeout_s = answer_timeout_s
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._under_way = threading.BoundedSemaphore(MAX_UNDER_WAY)
        self._closed = threading.Event()
        self._up = Throttle(line.up_bytes_s, self._closed.wait)
        self._down = Throttle(line.down_bytes_s, self._closed.wait)
        self._tls: ssl.SSLContext | None = None
        self._answered = False
        self.on_request: Callable[[str, str], None] | None = None
        """Told the method and path of each request sent: for verbose output and tests."""

    def __str__(self) -> str:
        return str(self.address)

    @property
    def authorization(self) -> str:
        """The Authorization header, or ""."""
        return self._authorization

    @property
    def has_proxy(self) -> bool:
        return self._proxy is not None

    @property
    def retry_waits_s(self) -> tuple[float, ...]:
        return self._retry_waits_s

    def open_socket(self) -> socket.socket:
        """A connection of its own, TLS done and the certificate checked; the caller closes it.

        Its timeout is that for connecting. Raises Unavailable, Forbidden.
        """
        connection = self._new_connection()
        assert connection.sock is not None
        connection.sock.settimeout(CONNECT_TIMEOUT_S)
        return connection.sock

    def path_of(self, target: str) -> str:
        """The path to ask for, given a path or a full URL that the server named.

        Raises Unsupported for a URL on another server: our credentials are not for it.
        """
        parts = urlsplit(target)
        if not parts.scheme and not parts.netloc:
            return target if target.startswith("/") else f"{self.address.path}/{target}"
        other = parse_url(f"{parts.scheme}://{parts.netloc}")
        if other.origin != self.address.origin:
            raise Unsupported("ask", target, f"it lies on another server than {self.address}")
        return parts.path + (f"?{parts.query}" if parts.query else "")

    def request(
        self,
        method: str,
        path: str,
        *,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        counted: bool = False,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Response:
        """Send a request and read the whole answer, whatever its status.

        path: absolute, with the query. counted: keep to MAX_UNDER_WAY of these at once.
        Redirects of GET and HEAD within the server are followed. Raises Unavailable when there
        is no answer; TooLarge when it is longer than `max_bytes`.
        """
        for _ in range(MAX_REDIRECTS):
            response = self._with_retries(method, path, body, headers or {}, counted, max_bytes)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            if method not in ("GET", "HEAD") and response.status != 303:
                return response
            path = self.path_of(response.headers.get("Location", ""))
            if response.status == 303:
                method, body = "GET", None
        raise Unavailable("ask", self.address, "too many redirects")

    def _with_retries(
        self,
        method: str,
        path: str,
        body: Body | None,
        headers: Mapping[str, str],
        counted: bool,
        max_bytes: int,
    ) -> Response:
        for wait_s in (*self._retry_waits_s, None):
            try:
                if counted:
                    with self._under_way:
                        response = self._answer(method, path, body, headers, max_bytes)
                else:
                    response = self._answer(method, path, body, headers, max_bytes)
            except Unavailable:
                if wait_s is None or not self._answered or self._closed.is_set():
                    raise
            else:
                if response.status not in RETRIED or wait_s is None:
                    return response
            self._closed.wait(wait_s)
        raise AssertionError

    def _answer(
        self,
        method: str,
        path: str,
        body: Body | None,
        headers: Mapping[str, str],
        max_bytes: int,
    ) -> Response:
        with self._exchange(method, path, body, headers) as answer:
            data = self._read(answer, max_bytes)
            return Response(answer.status, answer.headers, data)

    def _read(self, answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
        if (answer.length or 0) > max_bytes:
            raise TooLarge("read answer of", self.address, f"over {max_bytes} bytes")
        try:
            reader = answer if self._down.is_free else self._down.reader(answer)
            data = reader.read(max_bytes + 1)
            if answer.length and len(data) <= max_bytes:
                raise Unavailable("read answer of", self.address, "it ended early")
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable("read answer of", self.address, reason_of(error)) from None
        if len(data) > max_bytes:
            raise TooLarge("read answer of", self.address, f"over {max_bytes} bytes")
        return data

    @contextmanager
    def stream(
        self, method: str, path: str, body: Body | None, headers: Mapping[str, str]
    ) -> Iterator[tuple[http.client.HTTPResponse, io.BufferedReader]]:
        """Send a request and give the answer, to be read as it comes. Not repeated.

        What goes wrong while reading comes as OSError or HTTPException: the caller may know how
        to go on.
        """
        with self._exchange(method, path, body, headers) as answer:
            yield answer, self._down.reader(answer)

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: Body | None, headers: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        """One request on one connection, which is kept if the answer was read to its end."""
        try:
            connection = self._idle_connection()
            if connection is None:
                connection = self._new_connection()
                answer = self._send(connection, method, path, body, headers, reused=False)
            else:
                answer = self._send(connection, method, path, body, headers, reused=True)
        except _Stale:
            self._drop_idle()  # the others are as old: the server was restarted, most likely
            connection = self._new_connection()
            answer = self._send(connection, method, path, body, headers, reused=False)
        keep = False
        try:
            yield answer
            keep = answer.isclosed() and not answer.will_close and connection.sock is not None
        finally:
            if not keep or not self._put_back(connection):
                connection.close()

    def _send(
        self,
        connection: Connection,
        method: str,
        path: str,
        body: Body | None,
        headers: Mapping[str, str],
        reused: bool,
    ) -> http.client.HTTPResponse:
        if self.on_request is not None:
            self.on_request(method, path)
        sent = {"Host": self.address.authority, "Accept-Encoding": "identity"}
        if self._authorization:
            sent["Authorization"] = self._authorization
        target = path
        if self._proxy is not None and self.address.scheme == "http":
            target = self.address.origin + path
            if self._proxy.authorization:
                sent["Proxy-Authorization"] = self._proxy.authorization
        sent.update(headers)
        if body is not None:
            size = len(body) if isinstance(body, bytes) else sum(map(len, body))
            sent["Content-Length"] = str(size)
        try:
            pieces: Body | Iterator[bytes] | None = body
            if body is not None and not self._up.is_free:
                pieces = self._up.pieces([body] if isinstance(body, bytes) else body)
            broken: OSError | None = None
            try:
                connection.request(method, target, body=pieces, headers=sent)
            except (BrokenPipeError, ConnectionResetError) as error:
                # A server may refuse before it has read everything: its answer may be there.
                broken = error
            try:
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException):
                if broken is not None:
                    raise broken from None
                raise
        except (ConnectionError, http.client.RemoteDisconnected) as error:
            connection.close()
            if reused:
                raise _Stale from error
            raise Unavailable("ask", self.address, reason_of(error)) from None
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unavailable("ask", self.address, reason_of(error)) from None
        except BaseException:
            connection.close()
            raise
        self._answered = True
        return answer

    # -- connections --------------------------------------------------------------------------

    def _idle_connection(self) -> Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _put_back(self, connection: Connection) -> bool:
        with self._lock:
            if self._closed.is_set() or len(self._idle) >= 4 * MAX_UNDER_WAY:
                return False
            self._idle.append(connection)
            return True

    def _drop_idle(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _new_connection(self) -> Connection:
        if self._closed.is_set():
            raise Unavailable("ask", self.address, "stopped")
        connection = self._unconnected()
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unavailable("connect to", self.address, reason_of(error)) from None
        try:
            self.check_certificate(connection.sock)
        except Forbidden:
            connection.close()
            raise
        connection.sock.settimeout(self._answer_timeout_s)
        return connection

    def _unconnected(self) -> Connection:
        address, proxy = self.address, self._proxy
        near = (address.host, address.port) if proxy is None else (proxy.host, proxy.port)
        if address.scheme == "http":
            return Connection(*near, timeout=CONNECT_TIMEOUT_S)
        connection = http.client.HTTPSConnection(
            *near, timeout=CONNECT_TIMEOUT_S, context=self.tls_context()
        )
        if proxy is not None:
            headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
            connection.set_tunnel(address.host, address.port, headers)
        return connection

    def tls_context(self) -> "ssl.SSLContext":
        """What a TLS connection to the server is made with; then `check_certificate`."""
        with self._lock:
            if self._tls is None:
                import ssl

                context = ssl.create_default_context()
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                if self._insecure or self._trusted_certs:
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                self._tls = context
            return self._tls

    def check_certificate(self, connection: object) -> None:
        """Raise Forbidden unless the server's certificate is a trusted one, where some are named.

        connection: an SSLSocket or SSLObject after its handshake; not looked at without TLS.
        """
        if not self._trusted_certs or self.address.scheme != "https":
            return
        import hashlib
        import ssl

        assert isinstance(connection, ssl.SSLSocket | ssl.SSLObject)
        der = connection.getpeercert(binary_form=True) or b""
        fingerprint = hashlib.sha256(der).hexdigest()[:FINGERPRINT_DIGITS]
        if fingerprint not in self._trusted_certs:
            reason = f"its certificate {fingerprint} is not trusted"
            raise Forbidden("connect to", self.address, reason)

    def close(self) -> None:
        """Close idle connections, and end every wait for a retry. Not needed to be polite."""
        self._closed.set()
        self._drop_idle()


def reason_of(error: Exception) -> str:
    """What went wrong with a connection, for people."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the server closed the connection without an answer"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


STATUS_ERRORS: Final[Mapping[int, type[StoreError]]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    405: Unsupported,
    413: TooLarge,
    415: Invalid,
    416: Invalid,
    501: Unsupported,
}


def status_error(
    operation: str, subject: object, transport: Transport, response: Response
) -> StoreError:
    """The error of the tree for an answer that is not a success. Names the server."""
    kind = STATUS_ERRORS.get(response.status, Unavailable)
    if response.status == 401:
        reason = "wrong or missing credentials (401)"
    else:
        phrase = http.client.responses.get(response.status, "unknown status")
        reason = f"{response.status} {phrase}"
        detail = _first_words(response)
        if detail and detail.lower() != phrase.lower():
            reason += f": {detail}"
    return kind(operation, subject, f"{transport}: {reason}")


def _first_words(response: Response) -> str:
    """What the body says, as one short line; "" for pages of HTML."""
    text = response.body[:2000].decode("utf-8", "replace").strip()
    if text.startswith("<"):
        return ""
    if text.startswith("{"):
        import json

        try:
            members = json.loads(response.body)
        except ValueError:
            return ""
        text = str(members.get("error") or members.get("message") or "")
    return " ".join(text.split())[:300]
