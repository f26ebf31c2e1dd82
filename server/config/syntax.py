"""The text of a configuration file as an object: TOML or JSON, told by content."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

from ...errors import ConfigError

# Settings that name a file or folder, at any depth.
_PATHS = frozenset(
    [
        "blobPath",
        "cacheRoot",
        "file",
        "httpsCert",
        "httpsKey",
        "identitySecretRing",
        "keyFile",
        "kvIndexFile",
        "levelDB",
        "path",
        "secretRing",
        "secringFile",
        "sourceRoot",
        "sqlite",
    ]
)


def parse(text: str, name: str) -> tuple[dict[str, object], bool]:
    """Return the object that `text` holds, and whether it is TOML.

    JSON begins with a brace. name: the file, for messages. Raises ConfigError that names the
    place, also for a key that stands twice.
    """
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            return tomllib.loads(text), True
        except tomllib.TOMLDecodeError as error:
            raise ConfigError("read", name, str(error)) from None
    try:
        value = json.loads(text.lstrip("\ufeff"), object_pairs_hook=_without_twins)
    except json.JSONDecodeError as error:
        place = f"{error.msg} (at line {error.lineno}, column {error.colno})"
        raise ConfigError("read", name, place) from None
    except _Twins as error:
        raise ConfigError("read", name, f"key {error.args[0]!r} stands twice") from None
    return value, False


class _Twins(Exception):
    """A JSON object has two members of one name."""


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for key, value in pairs:
        if key in members:
            raise _Twins(key)
        members[key] = value
    return members


def anchor(values: Mapping[str, object], folder: Path, home: str) -> dict[str, object]:
    """Make the paths among `values` absolute, as in server.toml they are relative to the file.

    folder: the file's, absolute. home: what a leading `~/` stands for; "" leaves it.
    """

    def anchored(key: str, value: object) -> object:
        if isinstance(value, dict):
            return anchor(value, folder, home)
        if isinstance(value, list):
            return [anchored("", item) for item in value]
        if key not in _PATHS or not isinstance(value, str) or not value:
            return value
        if home and value.startswith("~/"):
            return str(Path(home, value[2:]))
        return str(folder / value)

    return {key: anchored(key, value) for key, value in values.items()}
