"""`pk storage compact` and `pk packblobs`, on stores that no server has open."""

from pathlib import Path

from peatkeep.blob import Ref
from peatkeep.blobserver.receive import receive_many
from peatkeep.server.config import load, prepare
from peatkeep.server.config.first_start import make
from peatkeep.server.topology import Topology

from .programs import run_program


def test_packs_give_back_the_space_of_removed_blobs(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    first = make(environ, listen="127.0.0.1:3999", user="ann", kind="diskpacked")
    config = load.load(first.server_config, environ)
    prepare.make_folders(config)
    blobs = [(Ref.of(b"%d" % n * 5000), b"%d" % n * 5000) for n in range(50)]
    with Topology(config, only=("/bs/",)) as topology:
        store = topology.storage("/bs/")
        receive_many(store, blobs)
        store.remove([ref for ref, _ in blobs[10:]])
    ran = run_program(["pk", "storage", "compact"], environ, tmp_path)
    assert ran.exit_code == 0, ran.stderr
    assert any(line.startswith("/bs/: ") for line in ran.lines)
    with Topology(config, only=("/bs/",)) as topology:
        assert dict(topology.storage("/bs/").fetch_many(ref for ref, _ in blobs[:10])) == dict(
            blobs[:10]
        )
    refused = run_program(["pk", "packblobs"], environ, tmp_path)
    assert (refused.exit_code, "storage-blobpacked" in refused.stderr) == (1, True)


def test_nothing_loose_is_nothing_to_pack(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    first = make(environ, listen="127.0.0.1:3999", user="ann", kind="blobpacked")
    prepare.make_folders(load.load(first.server_config, environ))
    ran = run_program(["pk", "packblobs"], environ, tmp_path)
    assert ran.lines == ["/bs/: 0 files packed, 0 small ones bundled"]
