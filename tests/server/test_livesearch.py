"""Live searches: the recorded conversations, and what a client must not be able to do."""

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from peatkeep.blob import Ref
from peatkeep.server import livesearch, sockets
from tests.index.corpus import corpus
from tests.waiting import GUARD_S

from .replay import VECTORS, Answer, compare, filled, json_fits, read_topic, send
from .running import RunningServer, running_server
from .stored import ROOT, claim, own_key, store_of
from .test_replay import server_config

Json = dict[str, Any]

TOPIC = read_topic("websocket-search")
HANDSHAKES: list[Json] = TOPIC["handshakes"]  # type: ignore[assignment]
CONVERSATION: list[Json] = TOPIC["conversation"]["messages"]  # type: ignore[index]
TRANSCRIPT: list[Json] = json.loads((VECTORS / "search" / "websocket.json").read_text("utf-8"))
SILENCE_S = 0.3
"""Long enough for an answer that should not come to come."""

PLACE = "/my-search/camli/search/ws"


class Client:
    """One conversation."""

    def __init__(self, server: RunningServer, wire: ClientConnection) -> None:
        self.server = server
        self.socket = wire
        self.statuses: list[Json] = []

    def receive(self, wait_s: float = GUARD_S) -> Json:
        """The next answer; messages of the status are kept apart."""
        while True:
            message: Json = json.loads(self.socket.recv(timeout=wait_s))
            if message["tag"] != "_status":
                return message
            self.statuses.append(message)

    def is_silent(self) -> bool:
        try:
            self.receive(SILENCE_S)
        except TimeoutError:
            return True
        return False

    def subscribe(self, tag: str, **query: object) -> Json:
        self.socket.send(json.dumps({"tag": tag, "query": query}))
        return self.receive()


@contextlib.contextmanager
def conversation(server: RunningServer) -> Iterator[Client]:
    token = server.service.world.auth.tokens.full
    url = f"ws://{server.host}{PLACE}?authtoken={token}"
    with connect(
        url, compression=None, proxy=None, open_timeout=GUARD_S, ping_interval=None
    ) as wire:
        yield Client(server, wire)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("websocket")
    with running_server(folder, **server_config(TOPIC, folder)) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with conversation(server) as client:
        yield client


# -- recorded -------------------------------------------------------------------------------------


@pytest.mark.vectors("http")
@pytest.mark.parametrize("handshake", HANDSHAKES, ids=lambda handshake: handshake["id"])
def test_a_recorded_handshake_is_answered_alike(recorded: RunningServer, handshake: Json) -> None:
    token = recorded.service.world.auth.tokens.full
    values = {"HOST": recorded.host, "AUTH_TOKEN": token}
    expected = handshake["response"]
    if expected["status"] != 101:
        answer = send(recorded, handshake["request"], values)
    else:
        answer = shaken(recorded, handshake["request"], values)
    assert compare(expected, "exact", answer, None) == []


def shaken(server: RunningServer, request: Json, values: dict[str, str]) -> Answer:
    """The head of the answer to a handshake that opens a socket."""
    lines = [f"GET {filled(request['path'], values)} HTTP/1.1", f"Host: {server.host}"]
    lines += [f"{name}: {filled(value, values)}" for name, value in request["headers"].items()]
    host, _, port = server.host.partition(":")
    with socket.create_connection((host, int(port)), GUARD_S) as wire:
        wire.sendall("\r\n".join([*lines, "", ""]).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += wire.recv(4096)
    first, *rest = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    return Answer(int(first.split()[1]), headers, b"", is_cut=False, seconds=0)


@pytest.mark.vectors("http")
def test_the_recorded_conversation_goes_alike(recorded: RunningServer) -> None:
    identity = json.loads((VECTORS / "http" / "identity.json").read_text())
    assert recorded.upload(ROOT, identity["public_key_armored"].encode()).status == 200
    with conversation(recorded) as client:
        for number, step in enumerate(CONVERSATION):
            assert goes_alike(client, step), f"message {number}: {step}"


def goes_alike(client: Client, step: Json) -> bool:
    if "blob" in step:
        upload(client.server, step["blob"]["ref"], step["blob"]["text"])
        return True
    if step["from"] == "client":
        text = step["repeat"] * step["count"] if "repeat" in step else step.get("text")
        client.socket.send(text if text is not None else json.dumps(step["json"]))
        return True
    if step.get("status_message"):
        message = json.loads(client.socket.recv(timeout=GUARD_S))
        assert sorted(message) == step["keys"]
        assert sorted(message["status"]) == step["status_keys"]
        return True
    if "silence_seconds" in step:
        return client.is_silent()
    if "close_code" in step:
        with pytest.raises(ConnectionClosed) as raised:
            client.receive()
        return raised.value.rcvd is not None and raised.value.rcvd.code == step["close_code"]
    return json_fits(step["json"], client.receive(), ordered=True)


def upload(server: RunningServer, ref: str, text: str) -> None:
    answer = server.upload(ROOT, text.encode())
    assert [entry["blobRef"] for entry in answer.json["received"]] == [ref]


@pytest.mark.vectors("search")
def test_the_recorded_transcript_goes_alike(tmp_path: Path) -> None:
    keys = json.loads((VECTORS / "search" / "identity" / "keys.json").read_text())
    ring = VECTORS / "search" / "identity" / "TEST-ONLY-owner-secring.gpg"
    with running_server(
        tmp_path, identity=keys["owner"]["keyId"], identitySecretRing=str(ring)
    ) as server:
        blobs = [data for _, data in corpus()]
        for start in range(0, len(blobs), 100):
            server.upload(ROOT, *blobs[start : start + 100])
        with conversation(server) as client:
            for number, step in enumerate(TRANSCRIPT):
                if step["step"] == "send":
                    client.socket.send(step["text"])
                elif step["step"] == "upload":
                    upload(server, step["blobRef"], step["content"])
                elif step.get("tag") != "_status":
                    found = client.receive()
                    assert found == step["json"], number
            assert client.is_silent()
            assert client.statuses


class Signed:
    """Makes claims of the owner of a server."""

    def __init__(self, server: RunningServer) -> None:
        self._storage, self._key = store_of(server), own_key(server)

    def permanode(self, name: str) -> Ref:
        return claim(self._storage, self._key, {"camliType": "permanode", "random": name})

    def set_attribute(self, permanode: Ref, attribute: str, value: str) -> None:
        about = {"permaNode": permanode, "attribute": attribute, "value": value}
        members = {"camliType": "claim", "claimType": "set-attribute", **about}
        claim(self._storage, self._key, members)

    def delete(self, target: Ref) -> None:
        members = {"camliType": "claim", "claimType": "delete", "target": target}
        claim(self._storage, self._key, members)


# -- our own --------------------------------------------------------------------------------------


def test_a_query_is_asked_again_only_when_its_answer_could_change(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = Signed(client.server)
    permanode, other = signed.permanode("one"), signed.permanode("two")
    signed.set_attribute(permanode, "tag", "wanted")
    assert len(client.subscribe("t", expression="tag:wanted")["result"]["blobs"]) == 1
    asked: list[str] = []
    ask = livesearch.Standing.ask

    def counted(query: livesearch.Standing, now_ns: int) -> str | None:
        asked.append("")
        return ask(query, now_ns)

    monkeypatch.setattr(livesearch.Standing, "ask", counted)
    signed.set_attribute(other, "title", "unwanted")
    client.server.upload(ROOT, b"mere data")
    assert client.is_silent()
    assert asked == []
    signed.set_attribute(other, "tag", "wanted")
    assert len(client.receive()["result"]["blobs"]) == 2
    assert len(asked) == 1
    signed.set_attribute(permanode, "tag", "no more")
    assert len(client.receive()["result"]["blobs"]) == 1


def test_a_deletion_is_told(client: Client) -> None:
    signed = Signed(client.server)
    permanode = signed.permanode("one")
    signed.set_attribute(permanode, "tag", "doomed")
    assert client.subscribe("t", expression="tag:doomed")["result"]["blobs"]
    signed.delete(permanode)
    assert client.receive()["result"]["blobs"] is None


def test_a_query_that_waits_for_its_named_search_is_answered_when_that_comes(
    client: Client,
) -> None:
    client.socket.send('{"tag": "n", "query": {"expression": "named:later"}}')
    assert client.is_silent()
    signed = Signed(client.server)
    text = b"tag:found"
    client.server.upload(ROOT, text)
    named, found = signed.permanode("named"), signed.permanode("found")
    signed.set_attribute(named, "camliNamedSearch", "later")
    signed.set_attribute(named, "camliContent", str(Ref.of(text)))
    assert client.receive()["result"]["blobs"] is None
    signed.set_attribute(found, "tag", "found")
    assert client.receive()["result"]["blobs"] == [{"blob": found}]


def test_tags_over_the_limit_are_passed_over(client: Client) -> None:
    for number in range(livesearch.MOST_QUERIES):
        client.subscribe(str(number), limit=1)
    client.socket.send('{"tag": "one too many", "query": {"limit": 1}}')
    assert client.is_silent()
    client.socket.send('{"tag": "0"}')
    assert client.subscribe("one too many", limit=1)["tag"] == "one too many"


def test_connections_over_the_limit_are_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.subscribe("t", limit=1)
    monkeypatch.setattr(livesearch, "MOST_CONNECTIONS", 1)
    with pytest.raises(InvalidStatus) as raised, conversation(client.server):
        pass
    assert raised.value.response.status_code == 503


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "7", '{"tag": 1}', '{"tag": "t", "query": 1}', "[" * 5000, "\0"]
)
def test_a_message_that_makes_no_sense_is_passed_over(client: Client, text: str) -> None:
    client.socket.send(text)
    assert client.subscribe("t", limit=1)["tag"] == "t"


def test_a_reader_who_does_not_read_is_cut_off(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = threading.Event()
    closed = sockets.LimitedSocket.connection_lost

    def connection_lost(protocol: sockets.LimitedSocket, error: Exception | None) -> None:
        closed(protocol, error)
        lost.set()

    monkeypatch.setattr(sockets.LimitedSocket, "connection_lost", connection_lost)
    monkeypatch.setattr(sockets, "WRITE_WAIT_S", 0.2)
    signed = Signed(server)
    signed.set_attribute(signed.permanode("long"), "title", "x" * 900_000)
    with conversation(server) as client:
        wire = client.socket
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with contextlib.suppress(ConnectionClosed):
            for number in range(livesearch.MOST_QUERIES):
                query = {"describe": {"depth": 1}, "limit": number + 1}
                wire.send(json.dumps({"tag": str(number), "query": query}))
        assert lost.wait(GUARD_S)


def test_the_end_of_the_server_is_told(tmp_path: Path) -> None:
    with contextlib.ExitStack() as conversations:
        with running_server(tmp_path) as server:
            client = conversations.enter_context(conversation(server))
            client.subscribe("t", limit=1)
        with pytest.raises(ConnectionClosed) as raised:
            client.receive()
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 1012
