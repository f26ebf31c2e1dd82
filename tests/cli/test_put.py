"""pk-put as a user meets it: flags, output, exit codes, interruption."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.folder import open_folder
from peatkeep.cli.claiming import duration_ns
from tests.clients.pinentry import Pinentry
from tests.schema.locking import locked_ring
from tests.server.running import IDENTITY, RunningServer, running_server
from tests.waiting import GUARD_S, wait_until

from .programs import Ran, run_program
from .wiretap import Recorder, recording


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def environ(server: RunningServer, tmp_path: Path) -> dict[str, str]:
    """A user whose configuration names the server."""
    config = tmp_path / "config"
    config.mkdir()
    write_config(config, server, server.url)
    return {
        "HOME": str(tmp_path),
        "PK_CONFIG_DIR": str(config),
        "PK_CACHE_DIR": str(tmp_path / "cache"),
        "PATH": os.environ["PATH"],
    }


def write_config(folder: Path, server: RunningServer, url: str) -> None:
    entry = {"server": url, "auth": server.auth, "default": True}
    config = {
        "servers": {"s": entry},
        "identity": IDENTITY["key_id"],
        "identitySecretRing": str(server.secring),
    }
    (folder / "client-config.json").write_text(json.dumps(config))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a").write_text("a")
    (tree / "sub" / "b").write_bytes(random.Random(1).randbytes(700_000))
    return tree


def put(environ: dict[str, str], folder: Path, *words: str, stdin: str = "") -> Ran:
    return run_program(["pk-put", *words], environ, folder, stdin)


def get(environ: dict[str, str], folder: Path, *words: str) -> Ran:
    return run_program(["pk-get", *words], environ, folder)


def test_json_tells_each_result_and_the_outcome_last(environ: dict[str, str], tree: Path) -> None:
    ran = put(environ, tree, "--json", "file", ".")
    lines = [json.loads(line) for line in ran.lines]
    lines = [line for line in lines if "progress" not in line]  # one a second
    assert Ref(lines[0]["ref"])
    assert lines[-1]["error"] is None
    assert (lines[-1]["files"], lines[-1]["bytes"]) == (2, 700_001)


def test_a_file_that_fails_is_named_and_the_rest_stored(
    environ: dict[str, str], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def refuse(path: object, *args: object, **options: object) -> int:
        if path == os.fsencode(tree / "a"):
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    ran = put(environ, tree, "file", str(tree))
    assert ran.exit_code == 2
    assert str(tree / "a") in ran.stderr
    assert "1 files stored, 1 failed" in ran.stderr
    monkeypatch.undo()
    out = tree.parent / "out"
    assert get(environ, tree, "-o", str(out), ran.lines[0]).exit_code == 0
    assert (out / "tree" / "sub" / "b").read_bytes() == (tree / "sub" / "b").read_bytes()


def test_a_run_with_nothing_new_imports_nothing_that_it_could_do_without(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    put(environ, tmp_path, "file", "empty")
    program = (
        "import atexit, sys; from peatkeep.cli.put import main;"
        " atexit.register(lambda: print(*sys.modules, file=sys.stderr)); main()"
    )
    words = [sys.executable, "-c", program, "file", "empty"]
    ran = subprocess.run(
        words,
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=GUARD_S,
    )
    assert Ref(ran.stdout.strip())
    heavy = {"asyncio", "concurrent.futures", "cryptography", "logging", "numpy", "rich"}
    assert not {*heavy, "peatkeep.blobserver.wire"} & set(ran.stderr.split())


def test_several_arguments_give_a_ref_each(environ: dict[str, str], tree: Path) -> None:
    ran = put(environ, tree, "file", "a", "sub")
    assert len([Ref(line) for line in ran.lines]) == 2


def test_a_dangling_link_is_an_error_and_a_good_one_is_stored(
    environ: dict[str, str], tree: Path
) -> None:
    (tree / "dangling").symlink_to("nowhere")
    (tree / "good").symlink_to("a")
    assert put(environ, tree, "file", "dangling").exit_code == 2
    (ref,) = put(environ, tree, "file", "good").lines
    schema = json.loads(get(environ, tree, ref).stdout)
    assert schema["symlinkTarget"] == "a"


@pytest.mark.parametrize(
    "words",
    [
        ("file", "-vivify", "-permanode", "a"),
        ("file", "-permanode", "a", "sub"),
        ("file", "-title", "x", "a"),
        ("file", "-delete_after_upload", "a"),
        ("blob",),
        ("blob", "-hash", "md5", "a"),
        ("delete",),
        ("delete", "zzz"),
        ("share",),
        ("share", "-search", "{", ""),
        ("share", "-duration", "soon", Ref.of(b"a")),
        ("permanode", "-key", "k"),
        ("permanode", "-key", "k", "-sigtime", "yesterday"),
        ("rawobj",),
        ("rawobj", "-vals", "x"),
        ("attr", "-add", "-del", Ref.of(b"a"), "n", "v"),
        ("remove",),
    ],
)
def test_wrong_usage_is_told_and_exits_1(
    words: tuple[str, ...], environ: dict[str, str], tree: Path
) -> None:
    ran = put(environ, tree, *words)
    assert (ran.exit_code, ran.stdout) == (1, b"")
    assert "Error: " in ran.stderr


def test_a_dead_server_is_named(environ: dict[str, str], tree: Path) -> None:
    ran = put(environ | {"PK_SERVER": "http://127.0.0.1:9"}, tree, "file", "a")
    assert ran.exit_code == 2
    assert "http://127.0.0.1:9" in ran.stderr


def test_a_wrong_password_is_told_without_showing_it(environ: dict[str, str], tree: Path) -> None:
    ran = put(environ | {"PK_AUTH": "userpass:alice:geheim"}, tree, "file", "a")
    assert ran.exit_code == 2
    assert "credentials" in ran.stderr
    assert "geheim" not in ran.stderr


def test_claims_are_signed_with_a_locked_key_after_its_passphrase(
    server: RunningServer, environ: dict[str, str], tmp_path: Path
) -> None:
    ring = tmp_path / "locked.gpg"
    ring.write_bytes(locked_ring(server.secring.read_bytes(), b"let me in"))
    pinentry = Pinentry(tmp_path / "bin")
    environ |= {
        "CAMLI_SECRET_RING": str(ring),
        "GNUPGHOME": str(tmp_path),
        "PATH": f"{tmp_path / 'bin'}:{environ['PATH']}",
    }
    pinentry.will_say("let me in")
    finished = put(environ, tmp_path, "permanode", "--title=locked")
    assert finished.exit_code == 0, finished.stderr
    assert len(finished.lines) == 2
    assert pinentry.times_asked == 1
    pinentry.will_say("no", "never", "not at all")
    finished = put(environ, tmp_path, "permanode", "--title=locked")
    assert finished.exit_code == 2
    assert "3 wrong passphrases" in finished.stderr
    assert "not at all" not in finished.stderr


def test_a_blob_over_16_mib_is_refused(environ: dict[str, str], tree: Path) -> None:
    (tree / "big").write_bytes(bytes(16 * 1024 * 1024 + 1))
    ran = put(environ, tree, "blob", "big", "a")
    assert ran.exit_code == 2
    assert "16 MiB" in ran.stderr
    assert ran.lines == [Ref.of(b"a")]


def test_plain_leaves_out_what_only_we_keep(environ: dict[str, str], tree: Path) -> None:
    (tree / "a").chmod(0o4755)
    (own,) = put(environ, tree, "file", "a").lines
    (plain,) = put(environ, tree, "file", "--plain", "a").lines
    assert "unixMode" in json.loads(get(environ, tree, own).stdout)
    assert "unixMode" not in json.loads(get(environ, tree, plain).stdout)


def test_du_stores_nothing(environ: dict[str, str], tree: Path) -> None:
    ran = put(environ | {"PK_SERVER": "http://127.0.0.1:9"}, tree, "file", "-du", ".")
    assert ran.stdout == b"700001\t2\t.\n"


def test_files_are_deleted_after_upload_only_when_told(environ: dict[str, str], tree: Path) -> None:
    assert put(environ, tree, "file", "-filenodes", "a").exit_code == 0
    assert (tree / "a").exists()
    ran = put(environ, tree, "file", "-filenodes", "-delete_after_upload", "a")
    assert ran.exit_code == 0, ran.stderr
    assert not (tree / "a").exists()
    assert get(environ, tree, "-contents", ran.lines[-1]).stdout == b"a"


def test_a_blobdir_takes_the_place_of_the_server(environ: dict[str, str], tree: Path) -> None:
    store = tree.parent / "store"
    nowhere = environ | {"PK_SERVER": "http://127.0.0.1:9"}
    stored = put(nowhere, tree, "-blobdir", str(store), "file", ".")
    discarded = put(nowhere, tree, "-blobdir", "discard", "file", ".")
    assert stored.exit_code == discarded.exit_code == 0, stored.stderr
    assert stored.stdout == discarded.stdout
    with open_folder(store) as kept:
        assert {*stored.lines} <= {ref for ref, _ in kept.enumerate()}


def test_sizes_of_blobs_are_measured_without_a_server(
    environ: dict[str, str], tree: Path, tmp_path: Path
) -> None:
    nowhere = environ | {"PK_SERVER": "http://127.0.0.1:9"}
    sizes = str(tmp_path / "sizes")
    flags = ["-debug-memstats", "-debug-histogram-file", sizes, "-sqlitecache"]
    measured = put(nowhere, tree, "file", *flags, ".")
    assert measured.exit_code == 0, measured.stderr
    assert measured.lines == put(nowhere, tree, "-blobdir", "discard", "file", ".").lines
    numbers = [int(line) for line in (tmp_path / "sizes").read_text().split()]
    words = f"In-memory blob stats: {len(numbers)} blobs, {sum(numbers)} bytes"
    assert words in measured.stderr
    assert len(numbers) > 5


@pytest.mark.parametrize(
    "flags",
    [
        ["-debug-histogram-file=x"],
        ["-debug-memstats", "-filenodes", "-delete_after_upload"],
    ],
)
def test_what_is_only_measured_is_not_deleted(
    environ: dict[str, str], tree: Path, flags: list[str]
) -> None:
    ran = put(environ, tree, "file", *flags, "a")
    assert ran.exit_code == 1
    assert (tree / "a").exists()
    assert not (tree / "x").exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("2ms", 0.002)],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert duration_ns(text) == round(seconds * 1e9)


@pytest.fixture
def slow_server(server: RunningServer, environ: dict[str, str]) -> Iterator[Recorder]:
    """A way to the server that lets requests pass one by one, when told."""
    with recording(server.host) as recorder:
        write_config(Path(environ["PK_CONFIG_DIR"]), server, recorder.url)
        yield recorder


def test_an_interrupted_run_says_so_and_the_next_goes_on(
    environ: dict[str, str], tree: Path, slow_server: Recorder
) -> None:
    rng = random.Random(5)
    for number in range(40):
        (tree / f"n{number}").write_bytes(rng.randbytes(600_000))
    slow_server.gate.clear()
    slow_server.open_for = 2  # discovery, and one upload
    program = [sys.executable, "-c", "from peatkeep.cli.put import main; main()", "file", "."]
    with subprocess.Popen(
        program,
        env=environ | {"PK_STREAM": "0"},  # the server counts requests
        # A shell in the background has its children ignore interrupts, and theirs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        cwd=tree,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert slow_server.waiting.wait(GUARD_S)
        process.send_signal(signal.SIGINT)
        slow_server.gate.set()
        out, err = process.communicate(timeout=GUARD_S)
    assert process.returncode == 130
    assert "interrupted" in err
    assert out == ""
    # What was on its way when it was interrupted is stored, or else is sent again.
    wait_until(lambda: not slow_server.under_way)
    before = sum(len(r.body) for r in slow_server.take())
    ran = put(environ, tree, "file", ".")
    assert ran.exit_code == 0, ran.stderr
    after = sum(len(r.body) for r in slow_server.take())
    total = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    assert before + after < total * 1.2
    (ref,) = ran.lines
    out_folder = tree.parent / "out"
    assert get(environ, tree, "-o", str(out_folder), ref).exit_code == 0
    for path in tree.iterdir():
        if path.is_file():
            assert (out_folder / "tree" / path.name).read_bytes() == path.read_bytes()
