"""The keys of a high-level configuration: their types, and what is wrong with a file's keys."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn

from ...errors import ConfigError

TEXTS: Final = frozenset(
    [
        "auth",
        "b2",
        "baseURL",
        "blobPath",
        "dbUnique",
        "dbname",
        "flickr",
        "googlecloudstorage",
        "googledrive",
        "httpsCert",
        "httpsKey",
        "identity",
        "identitySecretRing",
        "instapaper",
        "kvIndexFile",
        "levelDB",
        "listen",
        "mongo",
        "mysql",
        "ownerName",
        "picasa",
        "postgres",
        "s3",
        "shareHandlerPath",
        "sourceRoot",
        "sqlite",
    ]
)
SWITCHES: Final = frozenset(
    [
        "copyIndexToMemory",
        "handlerConfig",
        "https",
        "memoryIndex",
        "memoryStorage",
        "packBlobs",
        "packLoose",
        "packRelated",
        "runIndex",
        "shareHandler",
    ]
)
TABLES: Final = frozenset({"limits", "migration", "prefixes", "publish", "scancab"})
KEYS: Final = TEXTS | SWITCHES | TABLES | {"replicateTo"}

MIGRATION: Final = frozenset({"blobPath", "packBlobs", "packLoose", "packRelated", "s3"})
"""The keys of the table `migration`: where the blobs are moving to."""

REMOTES: Final = frozenset({"b2", "googlecloudstorage", "googledrive", "s3"})
"""The keys of stores in the cloud."""

LEAVE_DAMAGED: Final = "leaveDamaged"
"""A further switch of that table: blobs that can't be read don't keep the migration from ending."""

_APP = frozenset(["apiHost", "backendURL", "httpsCert", "httpsKey", "listen", "program"])
PUBLISH: Final = _APP | {"cacheRoot", "camliRoot", "goTemplate", "sourceRoot"}
SCANCAB: Final = _APP | {"auth", "prefix"}


class Untransformable(ConfigError):
    """The high-level configuration is inconsistent; `reason` is the message Perkeep gives."""


def refuse(reason: str) -> NoReturn:
    raise Untransformable(
        "failed to transform", "user config file into internal handler configuration", reason
    )


def hint(word: str, words: Iterable[str]) -> str:
    """Return `; did you mean …?` where one of `words` is close to `word`, else ""."""
    by_lower = {known.lower(): known for known in words}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.75)
    return f'; did you mean "{by_lower[close[0]]}"?' if close else ""


def is_comment(key: str) -> bool:
    """Tell whether a key is there for people only: Perkeep ignores those that begin with `_`."""
    return key.startswith("_")


def check(high: Mapping[str, object], name: str) -> None:
    """Refuse unknown keys and values of a wrong type. name: the file. Raises ConfigError.

    Messages name keys, never values: these may be secret.
    """
    if high.keys() & {"HTTPSCertFile", "HTTPSKeyFile"}:
        raise ConfigError(
            "config keys",
            '"HTTPSKeyFile" and "HTTPSCertFile" have respectively been renamed to "httpsKey" and'
            ' "httpsCert", please fix your server config',
        )
    for key, value in high.items():
        if is_comment(key):
            continue
        if key not in KEYS:
            subject = f'"{key}" in file "{name}"{hint(key, KEYS)}'
            raise ConfigError("unknown high-level configuration parameter:", subject)
        _check_type(name, key, value)
    migration = high.get("migration") or {}
    assert isinstance(migration, Mapping)
    for key, value in migration.items():
        if key not in MIGRATION | {LEAVE_DAMAGED}:
            subject = f'"migration.{key}" in file "{name}"{hint(key, MIGRATION)}'
            raise ConfigError("unknown high-level configuration parameter:", subject)
        _check_type(name, key, value)
    published = high.get("publish") or {}
    assert isinstance(published, Mapping)
    for prefix, app in published.items():
        _check_app(name, f"publish.{prefix}", app, PUBLISH)
    if high.get("scancab"):
        _check_app(name, "scancab", high["scancab"], SCANCAB)


def _check_type(name: str, key: str, value: object) -> None:
    if value is None:
        return
    if key in TEXTS:
        wanted, fits = "text", isinstance(value, str)
    elif key in SWITCHES or key == LEAVE_DAMAGED:
        wanted, fits = "true or false", isinstance(value, bool)
    elif key in TABLES:
        wanted, fits = "a table", isinstance(value, Mapping)
    else:
        wanted, fits = "a list", isinstance(value, list)
    if not fits:
        raise ConfigError("read", f"{name}, {key}", f"it must be {wanted}")


def _check_app(name: str, place: str, app: object, keys: frozenset[str]) -> None:
    if not isinstance(app, Mapping):
        raise ConfigError("read", f"{name}, {place}", "it must be a table")
    for key, value in app.items():
        if is_comment(key):
            continue
        if key not in keys:
            raise ConfigError("read", f"{name}, {place}", f'unknown key "{key}"{hint(key, keys)}')
        if not isinstance(value, str):
            raise ConfigError("read", f"{name}, {place}.{key}", "it must be text")
