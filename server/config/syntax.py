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
    text = text.removeprefix("\ufeff")
    is_toml = not text.lstrip().startswith("{")
    try:
        if is_toml:
            return tomllib.loads(text), True
        return json.loads(text, object_pairs_hook=_without_twins), False
    except json.JSONDecodeError as error:
        reason = f"{error.msg} (at line {error.lineno}, column {error.colno})"
    except _Twins as error:
        reason = f"key {error.args[0]!r} stands twice"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:  # TOML's errors, and numbers of thousands of digits
        reason = str(error)
    raise ConfigError("read", name, reason)


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
