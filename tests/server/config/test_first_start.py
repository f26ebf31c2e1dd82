"""The first start: what is made, what is taken over, what is never touched."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from peatkeep.errors import ConfigError
from peatkeep.server.config import load, prepare, private, support
from peatkeep.server.config.first_start import FirstStart, client_url, make

LISTEN = "127.0.0.1:3999"


class Home:
    """A home directory and the first start in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ = {"HOME": str(path)}
        self.config = path / ".config/peatkeep"
        self.client = self.config / "client-config.json"

    def make(self, data: Path | None = None, listen: str = LISTEN) -> FirstStart:
        return make(self.environ, listen=listen, user="ann", data=data)

    def client_values(self) -> Any:
        return json.loads(self.client.read_text())

    def write_client(self, values: object, folder: str = "peatkeep") -> Path:
        path = self.path / ".config" / folder / "client-config.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
        return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir(mode=0o700)
    return Home(tmp_path / "home")


def test_a_fresh_home_gets_all_that_a_server_and_its_clients_need(home: Home) -> None:
    first = home.make()
    assert first.server_config == home.config / "server.toml"
    assert first.ring == home.config / "identity-secring.gpg"
    assert first.blobs == home.path / ".local/share/peatkeep/blobs"
    config = load.load(first.server_config, home.environ)
    assert support.check_supported(config) == []
    assert config.listen == LISTEN
    assert config.prefixes["/sighelper/"].args["keyId"] == first.key_id
    entry = home.client_values()["servers"]["peatkeep"]
    assert entry == {"server": f"http://{LISTEN}", "auth": config.auth, "default": True}
    assert home.client_values()["identity"] == first.key_id
    assert home.client_values()["identitySecretRing"] == str(first.ring)
    assert (first.alias, first.is_default, first.is_new_key) == ("peatkeep", True, True)


def test_the_password_is_random_and_of_32_digits(home: Home, tmp_path: Path) -> None:
    home.make()
    (tmp_path / "other").mkdir()
    other = Home(tmp_path / "other")
    other.make()
    first, second = (h.client_values()["servers"]["peatkeep"]["auth"] for h in (home, other))
    assert first != second
    kind, user, password = first.split(":")
    assert (kind, user, len(bytes.fromhex(password))) == ("userpass", "ann", 16)


def test_everything_is_for_the_owner_only(home: Home) -> None:
    home.make()
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in home.path.rglob("*")}
    for path in (home.config, home.path / ".local/share/peatkeep/blobs"):
        assert modes[path] == 0o700
    files = {path.name: mode for path, mode in modes.items() if path.is_file()}
    assert files == dict.fromkeys(
        ("server.toml", "client-config.json", "identity-secring.gpg"), 0o600
    )


def test_with_a_data_folder_all_but_the_client_configuration_lies_in_it(
    home: Home, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    home.make(data)
    found = {path.name for path in data.iterdir()}
    assert found == {"server.toml", "identity-secring.gpg", "blobs"}
    assert [path.name for path in home.config.iterdir()] == ["client-config.json"]
    # Relative paths: the folder can be moved.
    data.rename(tmp_path / "moved")
    config = load.load(tmp_path / "moved/server.toml", home.environ)
    assert config.prefixes["/bs/"].args["path"] == str(tmp_path / "moved/blobs")


def test_a_second_start_of_the_same_kind_is_refused(home: Home) -> None:
    first = home.make()
    before = first.server_config.read_bytes(), home.client.read_bytes()
    with pytest.raises(ConfigError, match="it exists"):
        home.make()
    assert (first.server_config.read_bytes(), home.client.read_bytes()) == before


def test_a_start_that_was_broken_off_goes_on_with_the_key_and_the_password(home: Home) -> None:
    first = home.make()
    client = home.client.read_bytes()
    first.server_config.unlink()
    again = home.make()
    assert (again.key_id, again.is_new_key) == (first.key_id, False)
    assert home.client.read_bytes() == client
    auth = home.client_values()["servers"]["peatkeep"]["auth"]
    assert load.load(again.server_config, home.environ).auth == auth


def test_another_server_of_the_clients_stays_their_default(home: Home, tmp_path: Path) -> None:
    ring = home.make(tmp_path / "one").ring
    values = home.client_values() | {"ignoredFiles": ["mine"]}
    values["servers"]["peatkeep"]["auth"] = ["_env", "${AUTH}"]
    home.write_client(values)
    second = home.make(tmp_path / "two", listen="127.0.0.1:4000")
    assert (second.alias, second.is_default) == ("peatkeep-4000", False)
    assert (second.ring, second.is_new_key) == (ring, False)
    found = home.client_values()
    added = found["servers"].pop("peatkeep-4000")
    assert found == values
    assert added.keys() == {"server", "auth"}


def test_the_client_configuration_of_perkeep_is_read_and_not_written(home: Home) -> None:
    values = {"servers": {"old": {"server": "https://h.example", "auth": "none", "default": True}}}
    perkeep = home.write_client(values, "perkeep")
    first = home.make()
    assert json.loads(perkeep.read_text()) == values
    assert home.client_values()["servers"].keys() == {"old", "peatkeep"}
    assert not first.is_default


def test_an_existing_keyring_is_taken_over(home: Home, ring: Path) -> None:
    home.environ["CAMLI_SECRET_RING"] = str(ring)
    first = home.make()
    assert (first.ring, first.key_id) == (ring, "D4DEEB67AB332011")


def test_a_keyring_of_two_keys_needs_a_choice(home: Home, ring: Path) -> None:
    from peatkeep.schema import keyring

    one, two = ring.read_bytes(), keyring.create_key()
    ring.write_bytes(one.rstrip() + b"\n\n" + two)
    home.environ["PK_SECRET_RING"] = str(ring)
    with pytest.raises(ConfigError, match="set PK_KEYID to one of its keys"):
        home.make()
    home.environ["PK_KEYID"] = "ab332011"
    assert home.make().key_id == "D4DEEB67AB332011"


def test_clients_that_know_the_address_keep_their_password(home: Home) -> None:
    entry = {"server": "http://localhost:3999/", "auth": "userpass:bob:pw", "default": True}
    home.write_client({"servers": {"mine": entry}})
    first = home.make()
    assert (first.alias, first.user) == ("mine", "bob")
    assert load.load(first.server_config, home.environ).auth == "userpass:bob:pw"


def test_clients_with_other_credentials_for_the_address_are_a_reason_to_stop(home: Home) -> None:
    path = home.write_client({"servers": {"a": {"server": f"http://{LISTEN}", "auth": "none"}}})
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="other credentials"):
        home.make()
    assert path.read_bytes() == before
    assert not (home.config / "server.toml").exists()


def test_the_older_form_of_the_client_configuration_is_a_reason_to_stop(home: Home) -> None:
    home.write_client({"server": "http://h.example:1", "auth": "none"})
    with pytest.raises(ConfigError, match="old form"):
        home.make()


def test_an_identity_of_the_clients_stays_as_it_is_written(home: Home, ring: Path) -> None:
    home.environ["PK_SECRET_RING"] = str(ring)
    values = {"identity": ["_env", "${MY_KEY}"], "ignoredFiles": []}
    home.write_client(values)
    home.make()
    found = home.client_values()
    assert {key: found[key] for key in values} == values


def test_a_client_configuration_that_is_no_json_is_a_reason_to_stop(home: Home) -> None:
    home.write_client([])
    with pytest.raises(ConfigError, match="no JSON object"):
        home.make()


def handler_of(first: FirstStart, home: Home) -> str:
    return load.load(first.server_config, home.environ).prefixes["/bs/"].handler


def test_blobs_are_packed_unless_another_store_is_chosen(home: Home, tmp_path: Path) -> None:
    assert handler_of(home.make(), home) == "storage-diskpacked"
    for kind, handler in (("localdisk", "filesystem"), ("blobpacked", "blobpacked")):
        first = make(home.environ, listen=LISTEN, user="ann", data=tmp_path / kind, kind=kind)
        assert handler_of(first, home) == f"storage-{handler}"


@pytest.mark.parametrize(
    ("there", "handler"),
    [
        ([], "storage-diskpacked"),
        (["packed", "pack-00000.blobs"], "storage-diskpacked"),
        (["packed"], "storage-filesystem"),
        (["packed", "sha1"], "storage-filesystem"),
    ],
)
def test_what_is_not_yet_in_zips_is_in_packs_unless_perkeep_left_files(
    home: Home, tmp_path: Path, there: list[str], handler: str
) -> None:
    for name in there:
        (tmp_path / "data/blobs" / name).mkdir(parents=True)
    data = tmp_path / "data"
    first = make(home.environ, listen=LISTEN, user="ann", data=data, kind="blobpacked")
    prefixes = load.load(first.server_config, home.environ).prefixes
    assert prefixes["/bs/"].handler == "storage-blobpacked"
    assert prefixes["/bs-loose/"].handler == handler


@pytest.mark.parametrize(
    ("there", "handler"),
    [
        ("packed", "storage-blobpacked"),
        ("sha224", "storage-filesystem"),
        ("sha1", "storage-filesystem"),
        ("pack-00000.blobs", "storage-diskpacked"),
    ],
)
def test_blobs_that_are_there_decide_the_kind(
    home: Home, tmp_path: Path, there: str, handler: str
) -> None:
    (tmp_path / "data/blobs" / there).mkdir(parents=True)
    assert handler_of(home.make(tmp_path / "data"), home) == handler


def test_a_store_that_is_there_is_not_taken_for_one_of_another_kind(
    home: Home, tmp_path: Path
) -> None:
    (tmp_path / "data/blobs/sha224").mkdir(parents=True)
    with pytest.raises(ConfigError, match="pk storage migrate"):
        make(home.environ, listen=LISTEN, user="ann", data=tmp_path / "data", kind="diskpacked")
    assert not (tmp_path / "data/server.toml").exists()


def test_a_colon_in_the_user_name_does_not_end_it(home: Home) -> None:
    make(home.environ, listen=LISTEN, user="a:b")
    assert home.client_values()["servers"]["peatkeep"]["auth"].startswith("userpass:a_b:")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (":80", "http://127.0.0.1:80"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://127.0.0.1:80"),
        ("[::1]:80", "http://[::1]:80"),
        ("keep.lan:80", "http://keep.lan:80"),
    ],
)
def test_clients_reach_the_server_where_it_listens(listen: str, url: str) -> None:
    assert client_url(listen) == url


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:0", "h:70000", "h:x"])
def test_an_address_without_a_port_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="host:port"):
        client_url(listen)


def test_odd_names_stand_well_in_the_file(home: Home, tmp_path: Path) -> None:
    data = tmp_path / 'a "b" \\ é'
    first = home.make(data)
    config = load.load(first.server_config, home.environ)
    assert config.prefixes["/bs/"].args["path"] == str(data / "blobs")


def test_a_folder_that_can_not_be_written_is_named(home: Home, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=str(tmp_path / "file")):
        home.make(tmp_path / "file")


def test_a_new_file_does_not_replace_another(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(ConfigError, match="it exists"):
        private.create(tmp_path / "a", "new")
    private.replace(tmp_path / "b", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "b": "new"}


# -- folders ---------------------------------------------------------------------------------------


def test_missing_folders_are_made(home: Home) -> None:
    config = load.load(home.make().server_config, home.environ)
    prepare.make_folders(config)
    assert [folder.is_dir() for folder in config.folders] == [True, True]


def test_an_index_without_its_blobs_is_a_disk_that_is_not_mounted(home: Home) -> None:
    first = home.make()
    first.blobs.rmdir()
    (first.blobs.parent / "index.leveldb").mkdir()
    with pytest.raises(ConfigError, match="not mounted"):
        prepare.make_folders(load.load(first.server_config, home.environ))
    assert not first.blobs.exists()


def test_the_cache_of_a_server_whose_blobs_are_in_a_bucket_may_be_gone(home: Home) -> None:
    first = home.make()
    text = first.server_config.read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("blobPath", "packBlobs"))]
    first.server_config.write_text("\n".join(['s3 = "key:secret:bucket"', *lines]))
    (first.blobs.parent / "index.leveldb").mkdir()
    config = load.load(first.server_config, home.environ | {"TMPDIR": str(first.blobs.parent)})
    prepare.make_folders(config)
    assert [folder.is_dir() for folder in config.folders] == [True]
