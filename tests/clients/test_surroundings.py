"""The stream wherever a server may be: behind TLS, below a prefix, with every kind of password;
and `pk sync` between servers with and without it."""

import asyncio
import json
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.remote import Transport, discover
from peatkeep.blobserver.remote.stream import Stream
from peatkeep.clients.aio import AsyncClient
from peatkeep.clients.aio.stream import AsyncStream
from peatkeep.clients.client import Client
from peatkeep.clients.config import ClientConfig, ServerEntry
from peatkeep.errors import Forbidden, Unavailable
from peatkeep.server.config import load, tls
from tests.cli.programs import run_program
from tests.cli.recording import Answer, recording
from tests.server.running import RunningServer, serving
from tests.waiting import GUARD_S

Blob = tuple[Ref, bytes]


def blobs(count: int, size: int, seed: int) -> list[Blob]:
    dice = random.Random(seed)
    return [(Ref.of(data), data) for data in (dice.randbytes(size) for _ in range(count))]


@contextmanager
def server_in(
    folder: Path, *, auth: str = "userpass:alice:secret", prefix: str = "", https: bool = False
) -> Iterator[RunningServer]:
    """A server with its blobs in memory, below `prefix`/bs/."""
    values = {
        "handlerConfig": True,
        "auth": auth,
        "listen": "127.0.0.1:0",
        "https": https,
        "prefixes": {
            f"{prefix}/": {"handler": "root", "handlerArgs": {"blobRoot": f"{prefix}/bs/"}},
            f"{prefix}/bs/": {"handler": "storage-memory"},
        },
    }
    environ = {"HOME": str(folder), "USER": "u", "PK_IN_CONTAINER": "1"}
    folder.mkdir(parents=True, exist_ok=True)
    config = load.from_values(values, environ)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        if https:
            config = tls.with_certificate(replace(config, listen="127.0.0.1"), environ)
        with serving(config, folder, environ, bound) as server:
            yield replace(server, url=server.url.replace("http", "https" if https else "http"))


def go_in_and_out(entry: ServerEntry, sent: list[Blob]) -> None:
    """By both faces of the client, over the stream."""
    with Client(entry, ClientConfig()) as client:
        client.put_blobs(sent)
        assert list(client.storage.fetch_many([ref for ref, _ in sent])) == sent
        stream = client.storage.open_stream()
        assert stream is not None
        assert stream.connections == 1

    async def body() -> None:
        async with asyncio.timeout(GUARD_S), AsyncClient(Client(entry, ClientConfig())) as client:
            await client.put_blobs(sent)
            await client.put_blob(b"one more")
            assert [each async for each in client.fetch_many([ref for ref, _ in sent])] == sent
            assert isinstance(client._blobs, AsyncStream)

    asyncio.run(body())


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningServer, str]]:
    """A server with a self-signed certificate, and its fingerprint."""
    folder = tmp_path_factory.mktemp("secure")
    with server_in(folder, https=True) as server:
        (certificate,) = folder.rglob("tls.crt")
        yield server, tls.fingerprint(str(certificate))


def test_the_stream_goes_through_tls(secure: tuple[RunningServer, str]) -> None:
    server, fingerprint = secure
    sent = [*blobs(40, 1_000, 1), *blobs(3, 1_500_000, 2)]
    go_in_and_out(ServerEntry(server.url, server.auth, (fingerprint,)), sent)


def test_a_certificate_that_is_not_trusted_is_not_spoken_to(
    secure: tuple[RunningServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, _ = secure
    for trusted, error in (((), Unavailable), (("0" * 20,), Forbidden)):
        transport = Transport(server.url, server.auth, trusted_certs=trusted)
        with pytest.raises(error):
            Stream(transport, "/bs/camli/stream").open()
        with pytest.raises(error):
            asyncio.run(AsyncStream(transport, "/bs/camli/stream").open())


# -- prefixes and passwords -----------------------------------------------------------------------


def test_the_stream_is_found_below_a_prefix(tmp_path: Path) -> None:
    with server_in(tmp_path, prefix="/my/keep") as server:
        go_in_and_out(ServerEntry(f"{server.url}/my/keep/bs", server.auth), blobs(20, 100, 3))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("none", "none"),
        ("localhost", "localhost"),
        ("userpass:alice:secret", "userpass:alice:secret"),
        ("userpass:alice:secret:vivify=other", "userpass:alice:other"),
        ("basic:alice:secret", "basic:alice:secret"),
        ("devauth:secret", "devauth:secret"),
        ("userpass:alice:secret", "token"),
    ],
)
def test_every_kind_of_password_opens_the_stream(tmp_path: Path, theirs: str, ours: str) -> None:
    with server_in(tmp_path, auth=theirs) as server:
        if ours == "token":
            found = discover(Transport(server.url, theirs))
            ours = f"token:{found.document['authToken']}"
        go_in_and_out(ServerEntry(server.url, ours), blobs(20, 100, 4))


# -- pk sync --------------------------------------------------------------------------------------


@pytest.mark.parametrize("without", ["", "source", "destination"])
def test_pk_sync_uses_the_stream_where_there_is_one(tmp_path: Path, without: str) -> None:
    """without: the end that is like Perkeep and names no stream."""
    sent = [*blobs(60, 1_000, 5), *blobs(3, 600_000, 6)]
    with (
        server_in(tmp_path / "a") as source,
        server_in(tmp_path / "b") as target,
        recording((source if without == "source" else target).host) as plain,
    ):
        plain.answers["GET /bs"] = Answer(200, discover(transport_to(target)).text)
        urls = {"source": source.url, "destination": target.url}
        urls |= {without: plain.url} if without else {}
        servers = {
            name: {"server": f"{url}/bs/", "auth": source.auth} for name, url in urls.items()
        }
        servers["source"]["default"] = True  # type: ignore[assignment]
        config = tmp_path / "config" / "client-config.json"
        config.parent.mkdir()
        config.write_text(json.dumps({"servers": servers}))
        config.chmod(0o600)
        with Client(ServerEntry(source.url, source.auth), ClientConfig()) as client:
            client.put_blobs(sent)
        environ = {"HOME": str(tmp_path), "PK_CONFIG_DIR": str(config.parent)}
        argv = ["pk", "-verbose", "sync", "-src", "source", "-dest", "destination"]
        ran = run_program(argv, environ, tmp_path)
        assert ran.exit_code == 0, ran.stderr
        with Client(ServerEntry(target.url, target.auth), ClientConfig()) as client:
            assert list(client.storage.fetch_many([ref for ref, _ in sent])) == sent
        assert ("POST /bs/camli/upload" in ran.stderr) is (without == "destination")
        assert ("GET /bs/camli/sha224-" in ran.stderr) is (without == "source")


def transport_to(server: RunningServer) -> Transport:
    return Transport(server.url, server.auth)
