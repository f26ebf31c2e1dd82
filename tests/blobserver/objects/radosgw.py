"""A real S3 server for tests: Ceph's gateway over one monitor and one OSD that keeps all in memory.

It listens on a free port of 127.0.0.1 and keeps its files in a folder of its own, both gone
afterwards. The kernel ends its processes when the one that started them dies, however it dies.
"""

import base64
import hashlib
import hmac
import secrets
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.blobserver.objects import servers
from tests.waiting import free_port

ACCESS_KEY = "tester"
SECRET_KEY = "not/a+real=secret"
START_LIMIT_S = 120
"""For each step of the start; the whole takes 4 s, with six others working on two cores 20 s."""

STARTS = 3
"""One that takes longer is tried again."""

GROUP = pytest.mark.xdist_group("radosgw")
"""Marks the tests that need the server, so that one worker has them all and starts one."""

_CONFIG = """\
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{port}/0]
auth cluster required = none
auth service required = none
auth client required = none
keyring = {folder}/keyring
run dir = {folder}
admin socket = {folder}/$name.sock
log file = {folder}/$name.log
ms bind msgr2 = false
ms bind ipv4 = true
public addr = 127.0.0.1
crash dir = {folder}
mon data = {folder}/mon
paxos propose interval = 0.02  # of 1 s: each of seven pools waits for several proposals
paxos min wait = 0.01
mon allow pool size one = true
mon cluster log file = {folder}/cluster.log
mon warn on pool no redundancy = false
osd data = {folder}/osd
osd objectstore = memstore
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
osd class load list = *
osd class default list = *
memstore device bytes = 4294967296
osd pool default pg autoscale mode = off
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{http} tcp_nodelay=1
rgw dns name =
rgw enable usage log = false
rgw enable gc threads = false
rgw enable lc threads = false
rgw run sync thread = false
rgw thread pool size = 64
"""


class RadosGateway:
    """The three programs. `stop` ends them and forgets all objects."""

    def __init__(self, folder: Path) -> None:
        for program in ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool", "ceph"):
            if shutil.which(program) is None:
                raise RuntimeError(f"no {program}: apt-get install ceph-mon ceph-osd radosgw")
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._common = ""
        self._config = folder / "ceph.conf"
        self._fsid = str(uuid.uuid4())
        self._mon_port, http = free_port(), free_port()
        self.url = f"http://127.0.0.1:{http}"
        self._config.write_text(
            _CONFIG.format(fsid=self._fsid, port=self._mon_port, http=http, folder=folder)
        )
        for name in ("mon", "osd", "rgw"):
            (folder / name).mkdir()

    def start(self) -> None:
        map_file = str(self._folder / "monmap")
        address = f"[v1:127.0.0.1:{self._mon_port}]"
        self._run("monmaptool", "--create", "--fsid", self._fsid, "--addv", "a", address, map_file)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_file)
        self._begin("ceph-mon", "-i", "a", "-f")
        identity = str(uuid.uuid4())
        self._register(identity)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", identity)
        # Without this it asks the monitor for settings first, and knows its address afterwards but
        # not the cluster's id. Commands sent so are refused ("wrong fsid"), and the OSD hangs.
        self._begin("ceph-osd", "-i", "0", "-f", "--no-mon-config")
        self._run(
            "radosgw-admin", "user", "create", "--uid", "tester", "--display-name", "tester",
            "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY,
        )  # fmt: skip
        self._begin("radosgw", "-n", "client.rgw", "-f")
        servers.wait_for(self.url, self._processes[-1], self.log)

    def stop(self) -> None:
        servers.end(self._processes)
        self._processes.clear()

    def new_bucket(self) -> str:
        """Make an empty bucket."""
        name = f"test-{secrets.token_hex(4)}"
        # The older signature, which is short.
        date = formatdate(usegmt=True)
        digest = hmac.new(SECRET_KEY.encode(), f"PUT\n\n\n{date}\n/{name}".encode(), hashlib.sha1)
        signature = f"AWS {ACCESS_KEY}:{base64.b64encode(digest.digest()).decode()}"
        servers.ask(f"{self.url}/{name}", "PUT", {"Date": date, "Authorization": signature})
        return name

    def args(self, bucket: str = "") -> dict[str, object]:
        """What a configuration says to use a bucket, or a new folder of the common one."""
        if not bucket:
            self._common = self._common or self.new_bucket()
            bucket = f"{self._common}/{secrets.token_hex(4)}"
        return {
            "bucket": bucket,
            "aws_access_key": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
            "endpoint": self.url,
            "retries": 1,
        }

    def remove_bucket(self, name: str) -> None:
        """Remove a bucket and what is in it, as an owner might while we use it."""
        self._run("radosgw-admin", "bucket", "rm", "--bucket", name, "--purge-objects")

    def _run(self, program: str, *arguments: str) -> None:
        config = [] if program == "monmaptool" else ["-c", str(self._config)]
        done = subprocess.run(
            [program, *config, *arguments],
            check=False,
            capture_output=True,
            timeout=START_LIMIT_S,
            cwd=self._folder,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {arguments}: {done.stderr.decode()}{self.log()}")

    def _register(self, identity: str) -> None:
        """Tell the monitor of the OSD. While it starts it may refuse, of which Ceph makes EPERM."""
        give_up = time.monotonic() + START_LIMIT_S
        while True:
            try:
                return self._run("ceph", "osd", "new", identity)
            except RuntimeError:
                if time.monotonic() > give_up:
                    raise

    def _begin(self, program: str, *arguments: str) -> None:
        command = [program, "-c", str(self._config), *arguments]
        self._processes.append(servers.begin(command, self._folder))

    def log(self) -> str:
        return "\n".join(path.read_text()[-1500:] for path in self._folder.glob("*.[ol][uo][tg]"))


@contextmanager
def gateway() -> Iterator[RadosGateway]:
    """A server of one's own, in a folder of its own."""
    with ExitStack() as stack:
        for attempt in range(1, STARTS + 1):
            folder = Path(tempfile.mkdtemp(prefix="peatkeep-radosgw-"))
            stack.callback(shutil.rmtree, folder)
            server = RadosGateway(folder)
            stack.callback(server.stop)
            try:
                server.start()
                break
            except subprocess.TimeoutExpired as error:
                if attempt == STARTS:
                    raise RuntimeError(f"{error}: {server.log()}") from None
                server.stop()
        yield server


@pytest.fixture(scope="session")
def radosgw() -> Iterator[RadosGateway]:
    with gateway() as server:
        yield server
