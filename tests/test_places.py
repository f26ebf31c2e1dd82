"""Places: which directory and file is taken, from a made-up environment."""

from pathlib import Path

import pytest

from peatkeep import places
from peatkeep.errors import ConfigError


def test_a_fresh_home_has_our_own_places(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert places.config_dir(environ) == tmp_path / ".config/peatkeep"
    assert places.data_dir(environ) == tmp_path / ".local/share/peatkeep"
    assert places.cache_dir(environ) == tmp_path / ".cache/peatkeep"
    assert places.client_config_file(environ) == tmp_path / ".config/peatkeep/client-config.json"
    assert places.server_config_file(environ) is None


def test_our_variables_beat_perkeeps() -> None:
    environ = {"PK_CONFIG_DIR": "/a", "CAMLI_CONFIG_DIR": "/b", "CAMLI_VAR_DIR": "/c"}
    assert places.config_dir(environ) == Path("/a")
    assert places.data_dir(environ) == Path("/c")


def test_an_empty_variable_counts_as_unset() -> None:
    assert places.config_dir({"PK_CONFIG_DIR": "", "CAMLI_CONFIG_DIR": "/b"}) == Path("/b")


def test_an_existing_perkeep_directory_is_read_and_never_written(tmp_path: Path) -> None:
    perkeep = tmp_path / ".config/perkeep"
    perkeep.mkdir(parents=True)
    (perkeep / "client-config.json").write_text("{}")
    environ = {"HOME": str(tmp_path)}
    assert places.config_dir(environ) == perkeep
    assert places.client_config_file(environ) == perkeep / "client-config.json"
    assert places.own_config_dir(environ) == tmp_path / ".config/peatkeep"


def test_our_file_comes_before_perkeeps(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    for folder, name in (("perkeep", "server-config.json"), ("peatkeep", "server.toml")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("")
    assert places.server_config_file(environ) == tmp_path / "peatkeep/server.toml"
    (tmp_path / "peatkeep/server.toml").unlink()
    assert places.server_config_file(environ) == tmp_path / "perkeep/server-config.json"


def test_a_chosen_directory_hides_perkeeps(tmp_path: Path) -> None:
    (tmp_path / ".config/perkeep").mkdir(parents=True)
    environ = {"HOME": str(tmp_path), "PK_CONFIG_DIR": str(tmp_path / "mine")}
    assert places.config_dirs(environ) == [tmp_path / "mine"]


def test_without_a_home_the_error_says_so() -> None:
    with pytest.raises(ConfigError, match="HOME is not set"):
        places.cache_dir({})


def test_a_relative_xdg_directory_counts_as_unset(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "XDG_CACHE_HOME": "here"}
    assert places.cache_dir(environ) == tmp_path / ".cache/peatkeep"


def test_a_switch_knows_the_boolean_words() -> None:
    assert places.switch({"A": "True"}, "A")
    assert not places.switch({"A": "f"}, "A")
    assert not places.switch({}, "A")
    with pytest.raises(ConfigError, match="A: 'maybe'"):
        places.switch({"A": "maybe"}, "A")
