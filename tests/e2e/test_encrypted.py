"""A server whose blobs lie encrypted, as server/config/README.md puts it together."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from peatkeep.blobserver.encrypt.store import AGREEMENT
from tests.e2e.compare_trees import differences
from tests.e2e.machine import Machine

KNOWN = b"the quick brown fox jumps over the lazy dog, and nobody may know"


def encrypted(config: dict[str, object], folder: Path) -> dict[str, object]:
    """This low-level configuration, with the blobs in an encrypted store in a folder."""
    for name in ("sealed", "metas"):
        (folder / name).mkdir(parents=True)
    key = folder / "key"
    key.touch(0o600)
    make = "import pyrage; print(pyrage.x25519.Identity.generate())"
    key.write_text(subprocess.check_output([sys.executable, "-c", make], text=True))
    prefixes = config["prefixes"]
    assert isinstance(prefixes, dict)
    for prefix, name in (("/sealed/", "sealed"), ("/sealed-meta/", "metas")):
        prefixes[prefix] = {
            "handler": "storage-filesystem",
            "handlerArgs": {"path": str(folder / name)},
        }
    prefixes["/bs/"] = {
        "handler": "storage-encrypt",
        "handlerArgs": {
            "I_AGREE": AGREEMENT,
            "keyFile": str(key),
            "blobs": "/sealed/",
            "meta": "/sealed-meta/",
            "metaIndex": {"type": "leveldb", "file": str(folder / "encrypt.leveldb")},
        },
    }
    return config


def test_a_tree_is_encrypted_on_disk_and_comes_back_after_a_restart(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    with machine.serving():
        pass  # the first start makes key, password and client configuration
    low = json.loads(machine.run("pk", "dumpconfig").out)
    config = machine.home / "encrypted.json"
    folder = tmp_path / "kept"
    config.write_text(json.dumps(encrypted(low, folder)))
    config.chmod(0o600)
    tree = tmp_path / "tree"
    (tree / "deeper").mkdir(parents=True)
    (tree / "known.txt").write_bytes(KNOWN * 1000)
    (tree / "deeper" / "known-name.txt").write_bytes(bytes(range(256)) * 4000)
    with machine.serving("--config", str(config)):
        ref = machine.run("pk-put", "file", tree).out.split()[0]
    shutil.rmtree(machine.home / ".cache")
    with machine.serving("--config", str(config)):
        machine.run("pk-get", "-o", tmp_path / "out", ref)
    assert list(map(str, differences(tree, tmp_path / "out" / "tree"))) == []
    stored = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert len(stored) > 4
    for clear in (KNOWN, b"known-name", b"camliVersion", bytes(range(256))):
        assert not any(clear in data for data in stored)
