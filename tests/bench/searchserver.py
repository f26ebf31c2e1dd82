"""A real peatkeepd over a corpus and its index: start-up, queries over HTTP, memory, receiving."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from peatkeep.blob import Ref
from peatkeep.blobserver.remote import Remote
from peatkeep.blobserver.storage import Storage
from tests.bench import corpora
from tests.bench.corpora import Corpus

_READY = re.compile(rb"available at (https?://\S+)")
_READY_WAIT_S = 600.0
"""Long enough to make rows for searches of an older form anew."""

Request = Mapping[str, object]


class Served(NamedTuple):
    """start_s: from the first instruction to readiness, as the user waits; start_cpu_s: of its
    processor time. started_mb, after_mb: VmRSS; most_mb: VmHWM.

    anonymous_mb: of the VmRSS after the queries, what is not pages of mapped files.
    """

    start_s: float
    start_cpu_s: float
    started_mb: float
    after_mb: float
    most_mb: float
    anonymous_mb: float


def measure(corpus: Corpus, index: Path, bodies: Sequence[Request]) -> Served:
    """Start the server, ask everything, stop it."""
    # Others have opened the index since: without this it would be made anew meanwhile.
    index.with_name(index.name + ".seen").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="peatkeep-bench-") as folder:
        config = _config(corpus, corpora.folder_of(corpus), index, Path(folder))
        began = time.monotonic()
        with _running(config, Path(folder) / "log") as (process, url):
            start_s, cpu_s = time.monotonic() - began, _cpu_s(process.pid)
            started_mb = _memory_mb(process.pid, "VmRSS")
            for body in bodies:
                _ask(url, body)
            kinds = ("VmRSS", "VmHWM", "RssAnon")
            return Served(
                start_s, cpu_s, started_mb, *(_memory_mb(process.pid, kind) for kind in kinds)
            )


class Received(NamedTuple):
    """seconds: until the last blob was acknowledged, which is when all are indexed.

    server_cpu_s: of the processor time of the server until then.
    """

    blobs: int
    seconds: float
    server_cpu_s: float


def receive(corpus: Corpus, index: Path, blobs: Sequence[tuple[Ref, bytes]]) -> Received:
    """Upload signed blobs as every client does, to a server with a new store and this index."""
    key = corpora.signer(corpus.key)
    with tempfile.TemporaryDirectory(prefix="peatkeep-bench-") as name:
        folder = Path(name)
        store = folder / "blobs"
        store.mkdir()
        config = _config(corpus, store, index, folder)
        with _running(config, folder / "log") as (process, url), _client(url) as to:
            to.receive_many([(key.ref, key.public_text)])
            cpu_s, began = _cpu_s(process.pid), time.monotonic()
            to.receive_many(blobs)
            elapsed_s = time.monotonic() - began
            return Received(len(blobs), elapsed_s, _cpu_s(process.pid) - cpu_s)


def _client(url: str) -> closing[Remote]:
    def no_other(prefix: str) -> Storage:
        raise LookupError(prefix)

    where = f"{url}/bs-and-index"
    return closing(Remote.from_config({"url": where, "auth": "none"}, no_other))


def _config(corpus: Corpus, blobs: Path, index: Path, folder: Path) -> Path:
    """blobs: the folder of the store."""
    ring = folder / "ring.gpg"
    ring.write_bytes(corpora.ring(corpus.key))
    owner = {"identity": corpora.signer(corpus.key).key_id, "secringFile": str(ring)}
    rows = {"type": "leveldb", "file": str(index)}
    store = corpora.store_args(blobs)
    handlers = {
        "/bs/": ("storage-diskpacked", store),
        "/index/": ("storage-index", {"blobSource": "/bs/", "storage": rows}),
        "/bs-and-index/": ("storage-replica", {"backends": ["/bs/", "/index/"]}),
        "/my-search/": ("search", {"index": "/index/", "owner": owner}),
        "/": ("root", {"blobRoot": "/bs/", "searchRoot": "/my-search/", "stealth": False}),
    }
    prefixes = {
        prefix: {"handler": handler, "handlerArgs": arguments}
        for prefix, (handler, arguments) in handlers.items()
    }
    config = {"auth": "localhost", "listen": "127.0.0.1:0", "handlerConfig": True}
    path = folder / "server-config.json"
    path.write_text(json.dumps({**config, "prefixes": prefixes}))
    return path


@contextmanager
def _running(config: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    program = Path(sys.executable).with_name("peatkeepd")
    with log.open("wb") as out:
        process = subprocess.Popen(
            [program, "--config", config], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        end = time.monotonic() + _READY_WAIT_S
        while (found := _READY.search(log.read_bytes())) is None:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server did not get ready:\n{log.read_text()}")
            time.sleep(0.01)
        yield process, found[1].decode().rstrip("/")
    finally:
        process.terminate()
        process.wait()


def _ask(url: str, body: Request) -> None:
    where = f"{url}/my-search/camli/search/query"
    with urllib.request.urlopen(where, json.dumps(body).encode()) as answer:
        answer.read()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int, kind: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024
