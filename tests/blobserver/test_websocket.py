"""The client's end of a websocket, against the server's end of another implementation."""

import struct

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from peatkeep.blobserver.remote.address import Address
from peatkeep.blobserver.remote.handshake import HEAD_BYTES
from peatkeep.blobserver.remote.masking import load_mask
from peatkeep.blobserver.remote.websocket import WebSocket
from peatkeep.errors import Forbidden, StoreError, Unavailable, Unsupported

ADDRESS = Address("http", "example.org", 3179, "")
MOST = 300_000
SIZES = (0, 1, 125, 126, 65_535, 65_536, MOST)


def opened(authorization: str = "") -> tuple[WebSocket, ServerProtocol]:
    client = WebSocket(ADDRESS, "/bs/camli/stream?x=1", authorization, MOST)
    server = ServerProtocol(max_size=1 << 20)
    pass_on(client, server)
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    assert answered(client, server) == []
    assert client.is_open
    return client, server


def pass_on(client: WebSocket, server: ServerProtocol) -> None:
    for piece in client.output():
        server.receive_data(piece)


def answered(client: WebSocket, server: ServerProtocol, step: int = 1 << 20) -> list[bytes]:
    """What the server has to say goes to the client, in steps of so many bytes."""
    wire = b"".join(server.data_to_send())
    messages: list[bytes] = []
    for start in range(0, len(wire), step):
        messages += map(bytes, client.feed(wire[start : start + step]))
    return messages


def frame(first: int, payload: bytes = b"") -> bytes:
    return bytes((first, len(payload))) + payload


def test_the_handshake_asks_for_the_path_and_says_who_asks() -> None:
    client = WebSocket(ADDRESS, "/bs/camli/stream?x=1", "Token t", MOST)
    head, *lines = b"".join(client.output()).decode().split("\r\n")
    assert head == "GET /bs/camli/stream?x=1 HTTP/1.1"
    assert {"Host: example.org:3179", "Authorization: Token t"} <= set(lines)
    assert not any("Extensions" in line for line in lines)


@pytest.mark.parametrize("size", SIZES)
def test_messages_arrive_as_they_were_sent(size: int) -> None:
    client, server = opened()
    sent = bytes(index % 251 for index in range(size))
    client.send(sent)
    pass_on(client, server)
    (came,) = server.events_received()
    assert isinstance(came, Frame)
    assert (came.opcode, bytes(came.data)) == (Opcode.BINARY, sent)
    server.send_binary(sent)
    assert answered(client, server, 4096) == [sent]


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_fragments_and_pings_between_them_come_in_any_pieces(step: int) -> None:
    client, server = opened()
    server.send_binary(b"a" * 200, fin=False)
    server.send_ping(b"now")
    server.send_continuation(b"b" * 70_000, fin=False)
    server.send_continuation(b"c", fin=True)
    server.send_text(b"no meaning", fin=False)
    server.send_continuation(b" here", fin=True)
    server.send_pong(b"unasked")
    server.send_binary(b"last")
    wire = b"a" * 200 + b"b" * 70_000 + b"c"
    assert answered(client, server, step) == [wire, b"last"]
    pass_on(client, server)
    (pong,) = server.events_received()
    assert isinstance(pong, Frame)
    assert (pong.opcode, pong.data) == (Opcode.PONG, b"now")


def test_a_message_may_follow_the_handshake_at_once() -> None:
    client, server = WebSocket(ADDRESS, "/", "", MOST), ServerProtocol()
    pass_on(client, server)
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    server.send_binary(b"hello")
    wire = b"".join(server.data_to_send())
    assert [message for at in range(len(wire)) for message in client.feed(wire[at : at + 1])] == [
        b"hello"
    ]


def test_a_large_message_is_read_to_where_it_stays() -> None:
    client, server = opened()
    sent = bytes(range(256)) * 1000
    server.send_binary(sent)
    wire = b"".join(server.data_to_send())
    assert client.feed(wire[:4096]) == []
    room = client.room
    assert room is not None
    room[:] = wire[4096:]
    assert list(map(bytes, client.filled(len(wire) - 4096))) == [sent]


def test_our_close_is_answered() -> None:
    client, server = opened()
    client.close(4400, "broken " * 40)
    assert client.is_over
    assert not client.has_farewell
    pass_on(client, server)
    server.events_received()
    assert server.close_rcvd is not None
    assert server.close_rcvd.code == 4400
    assert answered(client, server) == []
    assert client.has_farewell


def test_the_servers_close_is_told_and_answered() -> None:
    client, server = opened()
    server.send_close(1001, "the server ends")
    answered(client, server)
    assert client.is_over
    assert client.has_farewell
    assert client.farewell == "the server closed the stream: 1001 the server ends"
    pass_on(client, server)
    assert server.close_rcvd is not None
    assert server.close_rcvd.code == 1001


def test_nothing_is_taken_behind_a_close() -> None:
    client, server = opened()
    wire = frame(0x88, struct.pack(">H", 1000)) + frame(0x82, b"late")
    assert client.feed(wire) == []
    server.receive_data(b"".join(client.output()))
    assert server.close_rcvd is not None


def test_an_end_without_a_close_is_a_cut() -> None:
    client, _ = opened()
    assert client.feed(b"") == []
    assert client.is_over
    assert client.farewell == "the connection was cut"


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (frame(0xC2, b"x"), 1002),  # a reserved bit
        (frame(0x83), 1002),  # no known kind
        (frame(0x8B), 1002),
        (frame(0x09), 1002),  # a ping in fragments
        (bytes((0x89, 126, 0, 126)), 1002),  # a long one
        (bytes((0x82, 0x81, 0, 0, 0, 0, 1)), 1002),  # masked
        (frame(0x80, b"x"), 1002),  # goes on with nothing
        (frame(0x02, b"x") + frame(0x82, b"y"), 1002),  # begins within another
        (frame(0x02, b"x") + frame(0x81, b"y"), 1002),
        (frame(0x88, b"x"), 1002),
        (frame(0x88, struct.pack(">H", 999)), 1002),
        (frame(0x88, struct.pack(">H", 1006)), 1002),
        (frame(0x88, struct.pack(">H", 1000) + b"\xff"), 1007),
        (b"\x82\x7f" + (MOST + 1).to_bytes(8, "big"), 1009),
        (b"\x82\x7f" + (1 << 63).to_bytes(8, "big"), 1009),
        (b"\x02\x7f" + MOST.to_bytes(8, "big") + bytes(MOST) + frame(0x80, b"x"), 1009),
    ],
)
def test_who_breaks_the_rules_is_told_so_and_not_listened_to(wire: bytes, code: int) -> None:
    client, server = opened()
    client.feed(wire)
    assert client.is_over
    assert "broke the websocket" in client.farewell
    assert client.feed(frame(0x82, b"late")) == []
    pass_on(client, server)
    assert server.close_rcvd is not None
    assert server.close_rcvd.code == code


def agreeing(**changed: str) -> bytes:
    """An answer to a handshake, with some headers changed; the key is not known."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"} | changed
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", Forbidden, "401 Unauthorized"),
        (b"HTTP/1.1 403 Forbidden\r\nA: b\r\n\r\nwhy", Forbidden, "403 Forbidden"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Unsupported, "404"),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", Unsupported, "200 OK"),
        (b"HTTP/1.1 429 Too Many\r\n\r\n", Unavailable, "429"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Unavailable, "502"),
        (b"HTTP/1.1 503\r\n\r\n", Unavailable, "503"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Unsupported, "valid HTTP"),
        (b"HTTP/1.1 1e1 x\r\n\r\n", Unsupported, "valid HTTP"),
        (b"HTTP/1.1 101 x\r\n" + b"a: b\r\n" * 200 + b"\r\n", Unsupported, "valid HTTP"),
        (b"x" * (HEAD_BYTES + 1), Unsupported, "no end"),
        (agreeing(Connection="keep-alive"), Unsupported, "Connection"),
        (agreeing(Upgrade="h2c"), Unsupported, "Upgrade"),
        (agreeing(), Unsupported, "Accept"),
        (agreeing(Sec_WebSocket_Accept="AAAA"), Unsupported, "Accept"),
        (b"", Unavailable, "cut"),
    ],
)
def test_a_refusal_says_why(answer: bytes, kind: type[StoreError], told: str) -> None:
    client = WebSocket(ADDRESS, "/", "", MOST)
    with pytest.raises(kind, match=told):
        client.feed(answer)


def test_an_extension_that_nobody_asked_for_is_refused() -> None:
    client, server = WebSocket(ADDRESS, "/", "", MOST), ServerProtocol()
    pass_on(client, server)
    (request,) = server.events_received()
    assert isinstance(request, Request)
    response = server.accept(request)
    response.headers["Sec-WebSocket-Extensions"] = "permessage-deflate"
    server.send_response(response)
    with pytest.raises(Unsupported, match="extension"):
        answered(client, server)


def test_masking_in_c_is_masking(monkeypatch: pytest.MonkeyPatch) -> None:
    key = bytes((1, 2, 3, 255))
    plain = bytes(range(256)) * 3 + b"x"
    expected = bytes(byte ^ key[index % 4] for index, byte in enumerate(plain))
    assert load_mask()(plain, key) == expected
    monkeypatch.setattr("importlib.machinery.PathFinder.find_spec", lambda *_: None)
    assert load_mask()(plain, key) == expected
