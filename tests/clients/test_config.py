"""The client configuration: what is read, which server is chosen, who gets credentials."""

import json
from pathlib import Path

import pytest

from peatkeep.clients.config import (
    ClientConfig,
    choose_server,
    parse_config,
    read_config,
    server_url,
    write_config,
)
from peatkeep.clients.ignore import Ignored
from peatkeep.errors import ConfigError, Invalid

PATH = Path("client-config.json")
TWO = {
    "servers": {
        "home": {"server": "http://home:3179", "auth": "userpass:u:p", "default": True},
        "bs": {"server": "http://home:3179/bs", "auth": "userpass:bs:p"},
        "far": {"server": "far.example", "trustedCerts": ["ab12"]},
    },
    "identity": "D4DEEB67AB332011",
    "identitySecretRing": "~/ring.gpg",
    "ignoredFiles": [".DS_Store"],
}


def parsed(members: object, **environ: str) -> ClientConfig:
    return parse_config(json.dumps(members), PATH, {"HOME": "/home/u", **environ})


def test_a_configuration_is_read() -> None:
    config = parsed(TWO)
    assert [entry.url for entry in config.servers] == [
        "http://home:3179",
        "http://home:3179/bs",
        "https://far.example",
    ]
    assert config.identity == "D4DEEB67AB332011"
    assert config.secret_ring == Path("/home/u/ring.gpg")
    assert config.ignored_files == (".DS_Store",)
    assert config.servers[2].trusted_certs == ("ab12",)


def test_the_older_form_is_one_default_server() -> None:
    (entry,) = parsed({"server": "localhost:3179", "auth": "none"}).servers
    assert entry.is_default
    assert entry.url == "https://localhost:3179"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"bogus": 1}, "unknown key 'bogus'"),
        ({"servers": {"a": {"server": "h:1", "bogus": 1}}}, r"servers\.a\.bogus"),
        ({"servers": {"a.b": {"server": "h:1"}}}, "a\\.b"),
        ({"servers": {"a": {}}}, "missing"),
        ({"servers": {"a": {"server": "plain"}}}, "neither a URL nor"),
        ({"servers": {"a": {"server": "h:1", "default": "yes"}}}, "true or false"),
        ({"servers": [], "identity": ""}, "an object"),
        ({"servers": {}, "server": "h:1"}, "servers"),
        ({"identity": 3}, "a string"),
        ({"ignoredFiles": [3]}, "list of strings"),
        ({"identity": ["_env", "${NOT_SET}"]}, "NOT_SET is not set"),
        ([], "not a JSON object"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(members: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        parsed(members)
    assert str(PATH) in str(caught.value)


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(ConfigError, match="not JSON"):
        parse_config("{", PATH, {})


def test_values_come_from_the_environment() -> None:
    members = {
        "servers": {
            "a": {
                "server": ["_env", "http://${HOST_NAME}:1"],
                "auth": ["_env", "${NOT_SET}", "none"],
                "default": ["_env", "${NOT_SET}", True],
            }
        }
    }
    (entry,) = parsed(members, HOST_NAME="h").servers
    assert (entry.url, entry.auth, entry.is_default) == ("http://h:1", "none", True)


def test_auth_stays_out_of_texts() -> None:
    assert "userpass" not in repr(parsed(TWO))


@pytest.mark.parametrize(
    ("environ", "wanted", "url", "auth"),
    [
        ({}, "", "http://home:3179", "userpass:u:p"),
        ({}, "far", "https://far.example", ""),
        ({}, "http://home:3179/bs/x", "http://home:3179/bs/x", "userpass:bs:p"),
        ({}, "http://home:3179/bsx", "http://home:3179/bsx", "userpass:u:p"),
        ({}, "http://home:31790", "http://home:31790", ""),
        ({}, "http://home.evil.example:3179", "http://home.evil.example:3179", ""),
        ({"CAMLI_DEFAULT_SERVER": "far"}, "", "https://far.example", ""),
        ({"CAMLI_SERVER": "far"}, "home", "https://far.example", ""),
        ({"PK_SERVER": "home", "CAMLI_SERVER": "far"}, "", "http://home:3179", "userpass:u:p"),
        ({"CAMLI_AUTH": "none"}, "", "http://home:3179", "userpass:u:p"),
        ({"PK_AUTH": "token:t"}, "", "http://home:3179", "token:t"),
    ],
)
def test_a_server_is_chosen(environ: dict[str, str], wanted: str, url: str, auth: str) -> None:
    config = parsed(TWO)
    chosen = choose_server(config, environ, wanted)
    assert chosen.url == url
    # CAMLI_AUTH counts only where no file is read.
    assert chosen.auth == auth


def test_no_server_and_unknown_aliases_are_errors() -> None:
    with pytest.raises(ConfigError, match="default"):
        choose_server(parsed({}), {})
    with pytest.raises(ConfigError, match="no such alias"):
        choose_server(parsed(TWO), {}, "nowhere")
    with pytest.raises(ConfigError):
        server_url("plain")


def test_a_missing_file_is_an_error_unless_it_is_switched_off(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    with pytest.raises(ConfigError, match="pk-put init"):
        read_config(environ)
    environ |= {"CAMLI_DISABLE_CLIENT_CONFIG_FILE": "1", "CAMLI_AUTH": "userpass:a:b"}
    config = read_config(environ)
    assert choose_server(config, environ, "http://h:1").auth == "userpass:a:b"


def test_variables_take_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "client-config.json").write_text(json.dumps(TWO))
    environ = {
        "HOME": str(tmp_path),
        "PK_CONFIG_DIR": str(tmp_path),
        "CAMLI_SECRET_RING": "/ring",
        "CAMLI_KEYID": "AAAA",
        "CAMLI_IGNORED_FILES": "a,b",
    }
    config = read_config(environ)
    assert (config.secret_ring, config.identity) == (Path("/ring"), "AAAA")
    assert config.ignored_files == ("a", "b")


def test_a_written_configuration_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "config" / "client-config.json"
    write_config(path, {"identity": "A"})
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(Invalid, match="exists"):
        write_config(path, {"identity": "B"})
    assert json.loads(path.read_text()) == {"identity": "A"}


@pytest.mark.parametrize(
    ("pattern", "ignored", "kept"),
    [
        (".DS_Store", "/a/.DS_Store", "/a/DS_Store"),
        ("*~", "/a/b~", "/a/b~c"),
        ("*.o", "/a/x.o", "/a/x.oo"),
        ("/a/b", "/a/b/c/d", "/a/bc"),
        ("/a/*/c", "/a/b/c", "/a/b/d/c"),
        ("b/c", "/a/b/c/d", "/a/b/cd"),
        ("~/x", "/home/u/x/y", "/home/u/xy"),
        ("node_modules", "/a/node_modules/b", "/a/node_modules2/b"),
        ("[ab]", "/x/b", "/x/c"),
        ("[ab]", "/x/[ab]", "/x/[ab]c"),
        ("[^ab]*", "/x/c.txt", "/x/a.txt"),
        ("[!ab]*", "/x/c.txt", "/x/a.txt"),
        ("\\*.x", "/a/*.x", "/a/b.x"),
        ("/a/\\[b]/*", "/a/[b]/c", "/a/b/c"),
        ("a?", "/x/ab", "/x/ab/c"),
    ],
)
def test_patterns_leave_files_out(pattern: str, ignored: str, kept: str) -> None:
    is_ignored = Ignored([pattern], {"HOME": "/home/u"})
    assert is_ignored(ignored.encode())
    assert not is_ignored(kept.encode())


def test_names_that_are_not_utf8_can_be_ignored() -> None:
    assert Ignored(["*.x"], {})(b"/a/\xff.x")
    assert not Ignored([], {})(b"/a/\xff.x")
