"""Changing where the blobs lie in a server.toml, and nothing else (README.md, "Migration").

The text is changed line by line, so that comments stay. The result is read again and compared with
what it should say: a file too unusual for that is refused, untouched.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ...errors import ConfigError
from . import private, syntax
from .high_keys import LEAVE_DAMAGED, MIGRATION

_TABLE: Final = re.compile(r"\s*\[")
_HEAD: Final = re.compile(r"\s*\[migration\]\s*(#.*)?")
_KEY: Final = re.compile(rf"\s*({'|'.join(sorted(MIGRATION))})\s*=")


def begin_migration(path: Path, settings: Mapping[str, str | bool]) -> None:
    """Add the table `migration`. Raises ConfigError where there is another one."""
    text, values = _read(path)
    there = values.get("migration")
    if there == settings:
        return
    if there is not None:
        raise ConfigError("begin migration", path, "another one is under way")
    if values.get("handlerConfig") is True:
        reason = "it is of the low level: give the store a storage-migrate in front yourself"
        raise ConfigError("begin migration", path, reason)
    table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    text = f"{text.rstrip()}\n\n# The blobs are moving there: pk storage migrate.\n[migration]\n"
    _write(path, text + table, {**values, "migration": dict(settings)})


def leave_damaged(path: Path) -> None:
    """Let the migration that is under way end without blobs that can't be read."""
    text, values = _read(path)
    table = values.get("migration")
    assert isinstance(table, dict)
    if table.get(LEAVE_DAMAGED) is True:
        return
    lines = text.splitlines(keepends=True)
    head = next((at for at, line in enumerate(lines) if _HEAD.fullmatch(line.rstrip())), len(lines))
    lines.insert(head + 1, f"{LEAVE_DAMAGED} = true\n")
    _write(path, "".join(lines), {**values, "migration": {**table, LEAVE_DAMAGED: True}})


def finish_migration(path: Path) -> None:
    """Let the keys of the table take the place of the old ones. Raises ConfigError.

    A file without that table stays as it is.
    """
    text, values = _read(path, also_json=True)
    settings = values.pop("migration", None)
    if not isinstance(settings, dict):
        return
    settings.pop(LEAVE_DAMAGED, None)
    is_copy = "blobPath" in values and "s3" not in settings
    replaced = MIGRATION - {"s3"} if is_copy else MIGRATION
    kept = {key: value for key, value in values.items() if key not in replaced}
    new = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    lines: list[str] = []
    place, table = 0, ""
    for line in text.splitlines():
        if _TABLE.match(line):
            table = "migration" if _HEAD.fullmatch(line) else "another"
        if table == "migration" or "pk storage migrate." in line:
            continue
        key = _KEY.match(line)
        if not table and key and key[1] in replaced:
            place = len(lines)
            continue
        lines.append(line)
    lines[place:place] = new
    _write(path, "\n".join(lines).rstrip() + "\n", kept | settings)


def _read(path: Path, *, also_json: bool = False) -> tuple[str, dict[str, object]]:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("read", path, str(error)) from None
    values, is_toml = syntax.parse(text, str(path))
    if not is_toml and not (also_json and "migration" not in values):
        reason = "it is JSON, as Perkeep has it: migrate with a server.toml of its own"
        raise ConfigError("change", path, reason)
    return text, values


def _write(path: Path, text: str, expected: Mapping[str, object]) -> None:
    values, _ = syntax.parse(text, str(path))
    if values != expected:
        reason = "it is written in an unusual way; change the keys of the store by hand"
        raise ConfigError("change", path, reason)
    private.replace(path, text)
