"""`_env` and `_fileobj`."""

from pathlib import Path
from typing import Any

import pytest

from peatkeep.errors import ConfigError
from peatkeep.server.config.expressions import Expander
from peatkeep.server.config.syntax import parse


def expand(value: object, environ: dict[str, str] | None = None, *folders: Path) -> Any:
    expander = Expander(environ or {}, folders, lambda path: parse(path.read_text(), str(path))[0])
    return expander.expand(value)


def test_variables_are_put_into_the_text() -> None:
    assert expand({"a": [1, ["_env", "${X}/b/${Y}"]]}, {"X": "x", "Y": "y"}) == {"a": [1, "x/b/y"]}


def test_an_unset_or_empty_variable_stands_for_the_default() -> None:
    assert expand(["_env", "${X}", "other"]) == "other"
    assert expand(["_env", "${X}", "other"], {"X": ""}) == "other"
    assert expand(["_env", "${X}", ""]) == ""


def test_an_unset_variable_without_a_default_is_an_error_that_names_key_and_variable() -> None:
    with pytest.raises(ConfigError, match=r"read a\.b: the environment variable X is not set"):
        expand({"a": {"b": ["_env", "${X}"]}})


@pytest.mark.parametrize(("word", "meant"), [("1", True), ("False", False), ("", True)])
def test_a_boolean_default_makes_a_boolean(word: str, meant: bool) -> None:
    assert expand(["_env", "${X}", True], {"X": word}) is meant


def test_a_word_that_is_no_boolean_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        expand({"a": ["_env", "${X}", False]}, {"X": "hunter2"})
    assert "neither true nor false" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", [["_env"], ["_env", 1], ["_env", "a", 1], ["_env", "a", "b", 1]])
def test_a_malformed_env_expression_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="has the form"):
        expand({"a": value})


def test_a_file_is_included_from_the_first_folder_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "two/x.json").write_text('{"b": ["_env", "${X}"]}')
    (tmp_path / "two/x.toml").write_text("c = 1")
    folders = (tmp_path / "one", tmp_path / "two")
    assert expand({"a": ["_fileobj", "x.json"]}, {"X": "y"}, *folders) == {"a": {"b": "y"}}
    assert expand(["_fileobj", "x.toml"], {}, *folders) == {"c": 1}


def test_a_missing_file_is_an_error_that_names_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"tried {tmp_path}/x.json"):
        expand(["_fileobj", "x.json"], {}, tmp_path)


def test_files_that_include_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"x": ["_fileobj", "b"]}')
    (tmp_path / "b").write_text('{"x": ["_fileobj", "a"]}')
    with pytest.raises(ConfigError, match="include each other"):
        expand(["_fileobj", "a"], {}, tmp_path)


@pytest.mark.parametrize("value", [["_fileobj"], ["_fileobj", 1], ["_fileobj", "a", "b"]])
def test_a_malformed_fileobj_expression_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="has the form"):
        expand(value)
