"""A real server for tests: uvicorn on a free loopback port, in a thread, on an empty store."""

import base64
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from peatkeep.blob import Ref
from peatkeep.server.config import load
from peatkeep.server.config.prepare import make_folders
from peatkeep.server.config.record import Limits, LowConfig
from peatkeep.server.serve import address_text, http_server
from peatkeep.server.service import Service
from tests.waiting import GUARD_S

IDENTITY = json.loads(
    (Path(__file__).parent.parent / "vectors" / "http" / "identity.json").read_text()
)
"""The throw-away key of the vectors."""

BOUNDARY = "xyzBOUNDARYxyz"
AUTH = "userpass:alice:secret:vivify=vivpass"


class Reply(NamedTuple):
    """An answer. headers: lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    url: without a final slash. auth: as a client configuration has it (`userpass:alice:secret`).
    data: its folder. secring: the secret key ring of its identity. service: its inside.
    """

    url: str
    auth: str
    data: Path
    secring: Path
    service: Service

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def headers(self) -> dict[str, str]:
        """Credentials for everything."""
        token = base64.b64encode(b"alice:secret").decode()
        return {"Authorization": f"Basic {token}"}

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        auth: str = "alice:secret",
        **headers: str,
    ) -> Reply:
        """Send a request. auth: name and password, or "" for none.

        headers: with `_` for `-`, which makes them keywords.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if auth:
            token = base64.b64encode(auth.encode()).decode()
            sent.setdefault("Authorization", f"Basic {token}")
        connection = http.client.HTTPConnection(self.host, timeout=GUARD_S)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            connection.close()

    def upload(self, prefix: str, *blobs: bytes, **headers: str) -> Reply:
        """Upload blobs in one request, each under its right name."""
        body = multipart_body([(str(Ref.of(data)), data) for data in blobs])
        return self.ask(
            "POST",
            f"{prefix}camli/upload",
            body,
            Content_Type=f"multipart/form-data; boundary={BOUNDARY}",
            **headers,
        )

    def form(self, path: str, text: str, **headers: str) -> Reply:
        kind = "application/x-www-form-urlencoded"
        return self.ask("POST", path, text.encode(), Content_Type=kind, **headers)


def multipart_body(parts: Sequence[tuple[str, bytes]]) -> bytes:
    """A form of files: name and content of each."""
    pieces = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in parts
    ]
    return b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode()


def write_secring(folder: Path) -> Path:
    """The vectors' key as a secret ring file; it protects nothing."""
    path = folder / "identity-secring.gpg"
    path.write_bytes(base64.b64decode(IDENTITY["secret_ring_file_base64"]))
    path.chmod(0o600)
    return path


def high_level(folder: Path, **changes: object) -> dict[str, object]:
    """The usual configuration: local disk, LevelDB index, shares. A change to None drops a key."""
    values: dict[str, object] = {
        "auth": AUTH,
        "listen": "127.0.0.1:0",
        "identity": IDENTITY["key_id"],
        "identitySecretRing": str(write_secring(folder)),
        "blobPath": str(folder / "blobs"),
        "levelDB": str(folder / "index.leveldb"),
        "shareHandler": True,
        "ownerName": "Test Owner",
        **changes,
    }
    return {key: value for key, value in values.items() if value is not None}


@contextmanager
def running_server(
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    **changes: object,
) -> Iterator[RunningServer]:
    """Start a server on `folder`, by default an empty one; `changes` as for `high_level`."""
    folder.mkdir(parents=True, exist_ok=True)
    surroundings = {"USER": "tester", "HOME": str(folder), **(environ or {})}
    with socket.create_server(("127.0.0.1", 0), backlog=256) as bound:
        values = high_level(folder, **{**changes, "listen": address_text(bound)})
        config = load.from_values(values, surroundings)
        if limits is not None:
            config = replace(config, limits=limits)
        with serving(config, folder, surroundings, bound) as server:
            yield server


@contextmanager
def serving(
    config: LowConfig, folder: Path, environ: Mapping[str, str], bound: socket.socket
) -> Iterator[RunningServer]:
    """Start a server by its low-level configuration on a bound socket."""
    make_folders(config)
    address = address_text(bound)
    service = Service(config, environ=environ, address=address)
    ready = threading.Event()
    server = http_server(service, ready.set)
    service.start()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="server")
    thread.start()
    try:
        if not ready.wait(GUARD_S):
            raise RuntimeError("the server did not start")
        auth = config.auth.split(":+")[0].split(":vivify=")[0]
        ring = folder / "identity-secring.gpg"
        yield RunningServer(f"http://{address}", auth, folder, ring, service)
    finally:
        server.should_exit = True
        thread.join(GUARD_S)
        service.close()
