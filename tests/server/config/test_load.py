"""Files to records: syntax, paths, places."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peatkeep import places
from peatkeep.errors import ConfigError
from peatkeep.server.config import load, redact, support, syntax
from peatkeep.server.config.record import LowConfig, Prefix
from tests.archives import extract_all

KEY_ID = "D4DEEB67AB332011"
VECTORS = Path(__file__).parents[2] / "vectors"


def high(ring: Path, **keys: object) -> dict[str, object]:
    base = {"auth": "localhost", "listen": "127.0.0.1:3179", "identity": KEY_ID}
    return base | {"identitySecretRing": str(ring), "blobPath": "/b", "levelDB": "/i"} | keys


def environ_of(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home")}


def test_json_and_toml_mean_the_same(tmp_path: Path, ring: Path) -> None:
    (tmp_path / "a").write_text("\ufeff \n" + json.dumps(high(ring)))
    lines = [f"{key} = {json.dumps(value)}" for key, value in high(ring).items()]
    (tmp_path / "b").write_text("# a comment\n" + "\n".join(lines))
    environ = environ_of(tmp_path)
    assert load.load(tmp_path / "a", environ).source == load.load(tmp_path / "b", environ).source


def test_relative_paths_in_toml_start_at_its_folder(tmp_path: Path, ring: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text(
        f'auth = "none"\nidentity = "{KEY_ID}"\nidentitySecretRing = "{ring.name}"\n'
        'blobPath = "blobs"\nlevelDB = "~/index"\n'
    )
    prefixes = load.load(path, environ_of(tmp_path)).prefixes
    assert prefixes["/bs/"].args["path"] == str(tmp_path / "blobs")
    storage = prefixes["/index/"].args["storage"]
    assert storage == {"type": "leveldb", "file": str(tmp_path / "home/index")}


def test_paths_in_json_are_taken_as_they_stand(tmp_path: Path, ring: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(high(ring, blobPath="here")))
    config = load.load(tmp_path / "c.json", environ_of(tmp_path))
    assert config.prefixes["/bs/"].args["path"] == "here"


def test_the_low_level_is_taken_in_either_syntax(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text(
        'handlerConfig = true\nauth = "none"\n'
        '[prefixes."/bs/"]\nhandler = "storage-filesystem"\nhandlerArgs = {path = "blobs"}\n'
    )
    config = load.load(path, environ_of(tmp_path))
    assert config.prefixes["/bs/"].args == {"path": str(tmp_path / "blobs")}
    (tmp_path / "c.json").write_text(json.dumps(dict(config.source)))
    assert load.load(tmp_path / "c.json", environ_of(tmp_path)).prefixes == config.prefixes


def test_a_signing_handler_without_a_keyring_uses_the_usual_one(tmp_path: Path) -> None:
    sign = {"handler": "jsonsign", "handlerArgs": {"keyId": KEY_ID}}
    values = {"handlerConfig": True, "auth": "none", "prefixes": {"/sighelper/": sign}}
    config = load.from_values(values, {"PK_SECRET_RING": "/ring", "HOME": "/h"})
    assert config.prefixes["/sighelper/"].args["secretRing"] == "/ring"
    assert "secretRing" not in sign["handlerArgs"]


def test_flags_of_the_start_reach_the_index(ring: Path, tmp_path: Path) -> None:
    config = load.from_values(high(ring), environ_of(tmp_path), reindex=True)
    args = config.prefixes["/index/"].args
    assert (args["reindex"], args["keepGoing"]) == (True, False)


def test_a_service_without_a_home_can_be_configured(tmp_path: Path, ring: Path) -> None:
    (tmp_path / "c").write_text(json.dumps(high(ring)))
    assert load.load(tmp_path / "c", {}).auth == "localhost"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "key 'a' stands twice"),
        ('{"a": 1', "at line 1"),
        ("a = 1\na = 2\n", "overwrite"),
        ("a =", "at"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load.load(tmp_path / "c", environ_of(tmp_path))
    assert str(tmp_path / "c") in str(caught.value)
    assert words in str(caught.value)


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load.load(tmp_path / "none", environ_of(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load.load(tmp_path / "binary", environ_of(tmp_path))


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "big").write_text("#" * (1 << 20) + "#")
    with pytest.raises(ConfigError, match="over 1 MiB"):
        load.load(tmp_path / "big", environ_of(tmp_path))


def test_an_error_in_an_expression_names_file_and_key(tmp_path: Path, ring: Path) -> None:
    (tmp_path / "c").write_text(json.dumps(high(ring, blobPath=["_env", "${NONE}"])))
    with pytest.raises(ConfigError) as caught:
        load.load(tmp_path / "c", environ_of(tmp_path))
    assert f"{tmp_path}/c, blobPath: the environment variable NONE" in str(caught.value)


def test_a_keyring_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"secret keyring /none \(identitySecretRing\)"):
        load.from_values(high(Path("/none")), environ_of(tmp_path))
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(ConfigError, match="junk"):
        load.from_values(high(tmp_path / "junk"), environ_of(tmp_path))


# -- what can be served ----------------------------------------------------------------------------


def config_of(**keys: Any) -> LowConfig:
    return LowConfig(**({"auth": "localhost", "listen": "127.0.0.1:1", "prefixes": {}} | keys))


def test_an_index_that_is_not_there_is_refused_by_its_key(tmp_path: Path, ring: Path) -> None:
    values = high(ring, mongo="me:secret@host")
    del values["levelDB"]
    config = load.from_values(values, environ_of(tmp_path))
    problems = support.check_supported(config)
    assert problems
    assert all("mongo needs mongo, which this version does not have yet" in x for x in problems)
    assert "secret" not in " ".join(problems)


def test_packed_stores_are_supported(tmp_path: Path, ring: Path) -> None:
    for key in ("packRelated", "packBlobs"):
        config = load.from_values(high(ring, **{key: True}), environ_of(tmp_path))
        assert support.check_supported(config) == []


def test_the_default_configuration_of_perkeep_is_told_apart(tmp_path: Path, ring: Path) -> None:
    config = load.from_values(
        high(ring, auth="localhost", listen=":3179", sqlite="/s", levelDB=""), environ_of(tmp_path)
    )
    assert support.check_supported(config) == []
    assert "open to the network" in support.warnings(config)[0]


def test_a_password_that_others_can_read_is_warned_of(tmp_path: Path, ring: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(json.dumps(high(ring, auth="userpass:ann:hunter2")))
    file.chmod(0o640)
    [warning] = support.warnings(load.load(file, environ_of(tmp_path)))
    assert "chmod 600" in warning
    file.chmod(0o600)
    assert support.warnings(load.load(file, environ_of(tmp_path))) == []


def test_a_password_in_the_clear_on_the_network_is_warned_of() -> None:
    config = config_of(auth="userpass:a:hunter2", listen=":3179")
    [warning] = support.warnings(config)
    assert "set https = true" in warning
    assert "hunter2" not in warning
    assert support.warnings(replace(config, https=True)) == []
    assert support.warnings(replace(config, base_url="https://keep.example.com")) == []
    assert support.warnings(replace(config, listen="127.0.0.1:3179")) == []


@pytest.mark.vectors("storage")
@pytest.mark.parametrize(
    "name", ["perkeepd-default-leveldb", "perkeepd-default-sqlite", "perkeepd-packblobs-leveldb"]
)
def test_a_home_of_perkeep_is_found_and_can_be_served(tmp_path: Path, name: str) -> None:
    extract_all(VECTORS / f"storage/{name}.tar.xz", tmp_path)
    environ = {"HOME": str(tmp_path / name)}
    file = places.server_config_file(environ)
    assert file == tmp_path / name / ".config/perkeep/server-config.json"
    config = load.load(file, environ)
    assert config.prefixes["/sighelper/"].args["keyId"] == "AEEB86115D2CAAD5"
    assert support.check_supported(config) == []


@pytest.mark.parametrize("listen", [":3179", "0.0.0.0:3179", "[::]:1", "example.org:80", ""])
def test_everybody_may_not_be_let_in_from_the_network(listen: str) -> None:
    problems = support.check_supported(config_of(auth="none", listen=listen))
    assert "would let everybody in" in problems[0]


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.1.2.3:1"])
def test_everybody_may_be_let_in_from_this_machine(listen: str) -> None:
    assert support.check_supported(config_of(auth="none", listen=listen)) == []


@pytest.mark.parametrize("auth", ["tailscale:full-access-to-tailnet", "userpass:hunter2", "magic"])
def test_an_auth_that_can_not_be_used_is_refused_without_showing_it(auth: str) -> None:
    problems = support.check_supported(config_of(auth=auth))
    assert len(problems) == 1
    assert problems[0].startswith("auth: ")
    assert "hunter2" not in problems[0]


def test_listening_on_a_tailnet_is_refused() -> None:
    assert "tailscale" in support.check_supported(config_of(listen="tailscale:name"))[0]


def test_an_index_of_a_type_that_is_not_there_is_refused(tmp_path: Path, ring: Path) -> None:
    config = load.from_values(high(ring, levelDB="", mysql="u@h:p"), environ_of(tmp_path))
    problems = support.check_supported(config)
    assert "/index/ (storage-index): mysql needs mysql, which this version does not have yet" in (
        problems
    )


def test_an_index_in_postgresql_can_be_served(tmp_path: Path, ring: Path) -> None:
    config = load.from_values(
        high(ring, levelDB="", postgres="u@h:p", dbname="mine"), environ_of(tmp_path)
    )
    assert support.check_supported(config) == []
    store = config.prefixes["/index/"].args["storage"]
    assert store == {
        "type": "postgres", "user": "u", "host": "h", "password": "p", "database": "mine",
    }  # fmt: skip


def test_an_index_whose_extra_is_not_installed_says_which(
    tmp_path: Path, ring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peatkeep.sorted.registry.find_spec", lambda name: None)
    config = load.from_values(high(ring, levelDB="", postgres="u@h:p"), environ_of(tmp_path))
    problems = support.check_supported(config)
    assert problems
    assert all('postgres needs the extra "sql": pip install' in line for line in problems)


def test_a_bucket_whose_extra_is_not_installed_says_which(
    tmp_path: Path, ring: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peatkeep.blobserver.registry.find_spec", lambda name: None)
    values = high(ring, blobPath=None, s3="k:s:bucket")
    config = load.from_values(values, environ_of(tmp_path))
    problems = support.check_supported(config)
    assert problems
    assert all('s3 or b2 needs the extra "s3": pip install' in line for line in problems)


# -- showing ---------------------------------------------------------------------------------------


def test_no_secret_is_left_in_what_is_shown() -> None:
    cases = json.loads((VECTORS / "http/config.json").read_text())["cases"]
    secrets = {"pass", "secret", "appkey", "sec", "ref", "k:s", "p:s", "i:s", "userpass:a:b"}
    for case in cases:
        for level in ("high_level", "low_level"):
            texts = set(_texts(redact.redacted(case.get(level, {}))))
            assert not texts & secrets, case["id"]
            logins = (":pass@", "@host:", "key:secret", "cid:sec", "acct:")
            assert not any(login in text for text in texts for login in logins), case["id"]


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def test_names_of_secret_files_and_empty_values_are_shown() -> None:
    values = {"secretRing": "/r", "httpsKey": "/k", "auth": {"client_secret": ""}, "n": 5}
    assert redact.redacted(values) == values


def test_a_login_in_a_url_is_cut_out() -> None:
    assert redact.redacted({"url": "https://me:pw@h/x"}) == {"url": "https://REDACTED@h/x"}


def test_toml_paths_within_lists_and_tables_are_anchored() -> None:
    values = {"a": [{"path": "x"}, "path"], "b": {"file": "/abs", "keyFile": ""}}
    assert syntax.anchor(values, Path("/f"), "") == {
        "a": [{"path": "/f/x"}, "path"],
        "b": {"file": "/abs", "keyFile": ""},
    }


def test_every_handler_that_is_said_to_be_supported_is_built() -> None:
    from peatkeep.server.config.handlers import SHAPES
    from peatkeep.server.service import BUILDERS

    kinds = {kind for kind in SHAPES if not kind.startswith("storage-")}
    refused = {
        kind for kind in kinds if support.check_supported(config_of(prefixes={"/x/": Prefix(kind)}))
    }
    assert refused == {"app"}
    assert kinds - refused <= BUILDERS.keys()
