import pytest

from .running import IDENTITY, RunningServer, running_server

ACCEPT = "text/x-camli-configuration"


def test_a_store_without_any_generation_behind_the_root_itself_names_neither(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_server(
        tmp_path_factory.mktemp("plain"),
        memoryStorage=True,
        runIndex=False,
        blobPath=None,
        levelDB=None,
        shareHandler=None,
    ) as server:
        document = server.ask("GET", "/", Accept=ACCEPT).json
        assert document["blobRoot"] == "/bs/"
        assert "storageGeneration" not in document
        assert "storageGenerationError" not in document
        assert document["storageInitTime"] is None
        assert "uiRoot" not in document
        assert "downloadHelper" not in document


def test_the_token_is_not_kept_by_caches(server: RunningServer) -> None:
    assert server.ask("GET", "/", Accept=ACCEPT).headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/bs", "/bs/", "/bs-and-maybe-also-index/", "/any/where"])
def test_every_path_that_is_nobody_elses_tells_it(server: RunningServer, path: str) -> None:
    reply = server.ask("GET", path, Accept=ACCEPT)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/javascript"


def test_the_public_key_is_in_the_store_from_the_start(server: RunningServer) -> None:
    ref = IDENTITY["public_key_blobref"]
    reply = server.ask("GET", f"/bs/camli/{ref}")
    assert reply.body.decode() == IDENTITY["public_key_armored"]
    assert server.ask("GET", "/", Accept=ACCEPT).json["signing"]["publicKeyBlobRef"] == ref
