"""A low-level configuration, as an object, becomes the record that the server is started from."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from ...errors import ConfigError
from . import handlers
from .high_keys import hint, is_comment
from .record import Limits, LowConfig, Prefix

_TOP: Final[dict[str, type]] = {
    "auth": str,
    "listen": str,
    "baseURL": str,
    "https": bool,
    "httpsCert": str,
    "httpsKey": str,
    "handlerConfig": bool,
    "prefixes": Mapping,
    "limits": Mapping,
}
_PREFIX: Final[dict[str, type]] = {
    "handler": str,
    "handlerArgs": Mapping,
    "enabled": bool,
    "internal": bool,
    "deletable": bool,
}
_WORDS: Final = {str: "text", bool: "true or false", Mapping: "a table"}


def record_of(low: Mapping[str, object], path: Path | None = None) -> LowConfig:
    """Return the typed record of a low-level configuration without expressions.

    path: the file that it came from. Disabled prefixes are left out. Raises ConfigError that
    lists every problem, each with its key.
    """
    found = list(problems(low))
    if found:
        raise ConfigError("read", path or "configuration", "; ".join(found))
    prefixes = _table(low, "prefixes")
    return LowConfig(
        auth=str(low["auth"]),
        listen=str(low.get("listen") or ""),
        base_url=str(low.get("baseURL") or "").rstrip("/"),
        https=bool(low.get("https")),
        https_cert=str(low.get("httpsCert") or ""),
        https_key=str(low.get("httpsKey") or ""),
        prefixes={
            prefix: _prefix_of(entry)
            for prefix, entry in prefixes.items()
            if isinstance(entry, Mapping) and entry.get("enabled") is not False
        },
        limits=_limits_of(low),
        path=path,
        source=low,
    )


def _table(low: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = low.get(key) or {}
    assert isinstance(value, Mapping)
    return value


def _prefix_of(entry: Mapping[str, object]) -> Prefix:
    return Prefix(
        handler=str(entry["handler"]),
        args=_table(entry, "handlerArgs"),
        internal=bool(entry.get("internal")),
        deletable=bool(entry.get("deletable")),
    )


def _limits_of(low: Mapping[str, object]) -> Limits:
    return Limits(**_table(low, "limits"))  # type: ignore[arg-type]  # `problems` checked them


def problems(low: Mapping[str, object]) -> Iterator[str]:
    """Yield one line for each thing that is wrong, with its key; values are never shown."""
    wrong = list(_key_problems("", low, _TOP, required=("auth", "prefixes")))
    yield from wrong
    if wrong:
        return
    yield from _limit_problems(_table(low, "limits"))
    https, files = low.get("https"), [low.get("httpsCert"), low.get("httpsKey")]
    if any(files) and not all(files):
        yield "httpsCert and httpsKey go together"
    if any(files) and not https:
        yield "httpsCert and httpsKey need https = true"
    prefixes = _table(low, "prefixes")
    wrong = []
    for prefix, entry in prefixes.items():
        if not (prefix.startswith("/") and prefix.endswith("/")):
            wrong.append(f'prefixes: "{prefix}" must begin and end with /')
        wrong += _prefix_problems(prefix, entry, prefixes)
    yield from wrong or _cycles(prefixes)


def _key_problems(
    place: str, table: Mapping[str, object], types: Mapping[str, type], required: tuple[str, ...]
) -> Iterator[str]:
    for key, value in table.items():
        if is_comment(key):
            continue
        if key not in types:
            yield f'{place}unknown key "{key}"{hint(key, types)}'
        elif value is not None and not isinstance(value, types[key]):
            yield f"{place}{key} must be {_WORDS[types[key]]}"
    for key in required:
        if not table.get(key):
            yield f"{place}{key} is missing"


def _limit_problems(limits: Mapping[str, object]) -> Iterator[str]:
    known = {field.name: type(field.default) for field in fields(Limits)}
    for key, value in limits.items():
        if key not in known:
            yield f'limits: unknown key "{key}"{hint(key, known)}'
        elif isinstance(value, bool) or not isinstance(value, (int, known[key])):
            yield f"limits: {key} must be a {'whole ' if known[key] is int else ''}number"
        elif not 0 < float(str(value)) < math.inf:
            yield f"limits: {key} must be above zero"


def _prefix_problems(prefix: str, entry: object, prefixes: Mapping[str, object]) -> Iterator[str]:
    if not isinstance(entry, Mapping):
        yield f"{prefix} must be a table"
        return
    wrong = list(_key_problems(f"{prefix}: ", entry, _PREFIX, required=("handler",)))
    yield from wrong
    if wrong or entry.get("enabled") is False:
        return
    handler, args = str(entry["handler"]), _table(entry, "handlerArgs")
    for problem in handlers.problems(handler, args):
        yield f"{prefix} ({handler}): {problem}"
    for name, target in handlers.references(handler, args):
        if not isinstance(target, str):
            yield f"{prefix} ({handler}): {name} must be a prefix"
            continue
        found = prefixes.get(target)
        if not isinstance(found, Mapping) or found.get("enabled") is False:
            yield f'{prefix} ({handler}): {name} refers to "{target}", which is not configured'


def _cycles(prefixes: Mapping[str, object]) -> Iterator[str]:
    """Yield a line for each circle of storage handlers that need each other to open."""
    uses: dict[str, list[str]] = {}
    for prefix, entry in prefixes.items():
        if isinstance(entry, Mapping) and str(entry.get("handler")).startswith("storage-"):
            args = entry.get("handlerArgs")
            found = handlers.references(str(entry["handler"]), args or {})
            uses[prefix] = [target for _, target in found if isinstance(target, str)]
    done: set[str] = set()

    def visit(prefix: str, trail: tuple[str, ...]) -> Iterator[str]:
        if prefix in trail:
            circle = trail[trail.index(prefix) :]
            yield f"handlers refer to each other in a circle: {' > '.join([*circle, prefix])}"
        elif prefix not in done:
            for target in uses.get(prefix, []):
                yield from visit(target, (*trail, prefix))
            done.add(prefix)

    for prefix in uses:
        yield from visit(prefix, ())
