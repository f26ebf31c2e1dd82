"""High level to low level: Perkeep's own output for many configurations."""

import json
from pathlib import Path
from typing import Any

import pytest

from peatkeep.errors import ConfigError
from peatkeep.server.config import high_keys
from peatkeep.server.config.high_keys import Untransformable
from peatkeep.server.config.high_level import convert, database_settings

VECTORS = Path(__file__).parents[2] / "vectors"
CASES = json.loads((VECTORS / "storage/high-to-low-config.json").read_text())["cases"]
KEY_ID = "AEEB86115D2CAAD5"
BASE = {
    "auth": "localhost",
    "listen": ":3179",
    "identity": KEY_ID,
    "identitySecretRing": "/ring",
}


def low(**keys: object) -> Any:
    high = {**BASE, **keys}
    high_keys.check(high, "test.json")
    return convert(high, lambda _, identity: identity, "${TMPDIR}")


@pytest.mark.vectors("storage")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_storage_prefixes_are_those_of_perkeep(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(Untransformable) as caught:
            low(**case["high"])
        assert f"Error: {caught.value}" == case["error"]
        return
    prefixes = low(**case["high"])["prefixes"]
    kinds = ("storage-", "sync", "ui")
    found = {path: entry for path, entry in prefixes.items() if entry["handler"].startswith(kinds)}
    assert found == case["low_prefixes"]
    assert prefixes["/"]["handlerArgs"]["blobRoot"] == case["blobRoot"]
    if "search" in case:
        search = prefixes["/my-search/"]["handlerArgs"]
        assert {key: search[key] for key in case["search"]} == case["search"]


def test_cloud_storage_with_a_database_keeps_everything_in_the_database() -> None:
    prefixes = low(s3="key:secret:bucket", mysql="root@db:pw")["prefixes"]
    login = {"type": "mysql", "user": "root", "host": "db", "password": "pw"}
    queue = prefixes["/sync/"]["handlerArgs"]["queue"]
    assert queue == login | {"database": "pk_aeeb86115d2caad5_syncto_index"}
    thumbnails = prefixes["/ui/"]["handlerArgs"]["scaledImage"]
    assert thumbnails == login | {"database": "pk_aeeb86115d2caad5_uithumbmeta"}


def test_two_cloud_stores_are_a_primary_one_and_its_copy() -> None:
    prefixes = low(s3="a:b:c", b2="d:e:f/g", levelDB="/x/index")["prefixes"]
    assert prefixes["/bs/"]["handlerArgs"]["bucket"] == "c"
    assert prefixes["/sto-b2/"]["handlerArgs"]["bucket"] == "f/g"
    assert prefixes["/sync-to-b2/"]["handlerArgs"]["from"] == "/bs/"
    assert prefixes["/sync-to-b2/"]["handlerArgs"]["queue"]["file"] == "/x/sync-to-b2-queue.leveldb"


def test_a_packed_copy_in_the_cloud_has_loose_and_packed_blobs_of_its_own() -> None:
    prefixes = low(
        blobPath="/b", packRelated=True, googlecloudstorage="i:s:r:bucket/d/", levelDB="/x/index"
    )["prefixes"]
    loose = prefixes["/sto-googlecloudstorage-bs-loose/"]["handlerArgs"]
    assert loose["bucket"] == "bucket/d/loose"
    packed = prefixes["/sto-googlecloudstorage/"]["handlerArgs"]
    assert packed["largeBlobs"] == "/sto-googlecloudstorage-bs-packed/"
    assert packed["metaIndex"] == {"type": "leveldb", "file": "/x/packindex.leveldb"}


def test_loose_blobs_of_a_packed_store_may_lie_in_packs() -> None:
    prefixes = low(blobPath="/b", packRelated=True, packLoose=True, levelDB="/x/index")["prefixes"]
    usual = low(blobPath="/b", packRelated=True, levelDB="/x/index")["prefixes"]
    index = {"type": "leveldb", "file": "/b/diskpacked-index.leveldb"}
    loose = {"handler": "storage-diskpacked", "handlerArgs": {"path": "/b", "metaIndex": index}}
    assert prefixes == usual | {"/bs-loose/": loose}


@pytest.mark.parametrize(
    "changes", [{}, {"packBlobs": True}, {"packRelated": True, "blobPath": None, "s3": "a:b:c"}]
)
def test_packed_loose_blobs_need_a_packed_store_on_disk(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="packLoose needs packRelated"):
        low(**{"blobPath": "/b", "packLoose": True, "levelDB": "/x/index"} | changes)


def test_a_host_of_s3_may_carry_a_port() -> None:
    prefixes = low(s3="a:b:c:localhost:9000", levelDB="/x")["prefixes"]
    assert prefixes["/bs/"]["handlerArgs"]["hostname"] == "localhost:9000"


def test_an_app_gets_the_certificate_of_the_server() -> None:
    prefixes = low(
        blobPath="/b",
        levelDB="/x",
        https=True,
        httpsCert="/c",
        httpsKey="/k",
        publish={"/p/": {"camliRoot": "r", "goTemplate": "g"}},
    )["prefixes"]
    settings = prefixes["/p/"]["handlerArgs"]["appConfig"]
    assert settings == {"camliRoot": "r", "goTemplate": "g", "httpsCert": "/c", "httpsKey": "/k"}


def test_without_an_index_and_a_keyring_the_identity_is_taken_as_written() -> None:
    high: dict[str, object] = {"auth": "none", "identity": "AA" * 12 + KEY_ID, "blobPath": "/b"}
    found: Any = convert(high | {"runIndex": False}, lambda *_: "", "/tmp")
    assert found["prefixes"]["/sighelper/"]["handlerArgs"] == {
        "keyId": KEY_ID,
        "publicKeyDest": "/bs/",
    }


def test_deletable_lets_the_primary_prefix_remove_what_it_reads() -> None:
    prefixes = low(
        blobPath="/b", levelDB="/x", prefixes={"/bs-and-maybe-also-index/": {"deletable": True}}
    )["prefixes"]
    assert prefixes["/bs-and-maybe-also-index/"]["deletable"] is True
    assert prefixes["/bs-and-maybe-also-index/"]["handlerArgs"]["remove"] == "/bs/"


def test_settings_of_a_prefix_that_is_not_there_are_refused() -> None:
    with pytest.raises(Untransformable, match='no prefix "/bx/"'):
        low(blobPath="/b", levelDB="/x", prefixes={"/bx/": {"deletable": True}})


def test_the_input_is_left_as_it_was() -> None:
    high = {**BASE, "blobPath": "/b", "levelDB": "/x", "limits": {"connections": 5}}
    before = json.dumps(high)
    assert convert(high, lambda _, identity: identity, "/tmp")["limits"] == {"connections": 5}
    assert json.dumps(high) == before


@pytest.mark.parametrize(
    ("kind", "text", "host", "password"),
    [
        ("mysql", "u@h:p", "h", "p"),
        ("mysql", "u@h:3306:p", "h:3306", "p"),
        ("postgres", "u@h:12", "h", "12"),
        ("postgres", "u@h:p:w@x", "h", "p:w@x"),
        ("postgres", "u@h:", "h", ""),
        ("mongo", "u:p@w@h", "h", "p@w"),
    ],
)
def test_a_database_login_is_taken_apart(kind: str, text: str, host: str, password: str) -> None:
    assert database_settings(kind, text) == {
        "type": kind,
        "user": "u",
        "host": host,
        "password": password,
    }


@pytest.mark.parametrize("text", ["secret", "secret@", "@host:secret", ""])
def test_a_malformed_login_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(Untransformable) as caught:
        database_settings("mysql", text)
    assert "secret" not in str(caught.value)


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ConfigError) as caught:
        high_keys.check({**BASE, "blobpath": "/x"}, "/c/server.toml")
    expected = '"blobpath" in file "/c/server.toml"; did you mean "blobPath"?'
    assert str(caught.value).endswith(expected)


def test_a_value_of_a_wrong_type_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match=r"server.toml, runIndex: it must be true or false") as e:
        high_keys.check({**BASE, "runIndex": "hunter2"}, "/c/server.toml")
    assert "hunter2" not in str(e.value)


def test_an_unknown_key_of_an_app_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'publish./p/: unknown key "camliroot"; did you mean'):
        high_keys.check({**BASE, "publish": {"/p/": {"camliroot": "x"}}}, "f")


def test_keys_that_begin_with_an_underscore_are_comments() -> None:
    assert "_note" not in low(blobPath="/b", levelDB="/x", _note="mine")


@pytest.mark.parametrize("identity", ["D4", "XYZW1234", "D4DEEB67AB3320110"])
def test_an_identity_that_is_no_key_id_is_refused(identity: str) -> None:
    with pytest.raises(Untransformable, match="not a key id"):
        low(blobPath="/b", levelDB="/x", identity=identity)


@pytest.mark.parametrize("url", ["a.example", "ftp://a.example", "https://", "http://h/?q=1"])
def test_a_base_url_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Untransformable, match="baseURL"):
        low(blobPath="/b", levelDB="/x", baseURL=url)
