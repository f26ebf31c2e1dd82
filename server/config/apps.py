"""High level: programs that serve a prefix of their own, the publisher and the scanning cabinet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .high_keys import refuse

if TYPE_CHECKING:
    from .high_level import Conversion


def add_apps(conversion: Conversion) -> None:
    """Mount an app handler for each entry of `publish`, and for `scancab`."""
    published = conversion.high.get("publish") or {}
    assert isinstance(published, Mapping)
    if published and not conversion.runs_index:
        refuse("publishing requires an index")
    for prefix, entry in published.items():
        _add_publisher(conversion, prefix, entry)
    cabinet = conversion.high.get("scancab") or {}
    assert isinstance(cabinet, Mapping)
    if cabinet:
        _add_cabinet(conversion, cabinet)


def _add_publisher(conversion: Conversion, prefix: str, entry: Mapping[str, str]) -> None:
    for key in ("camliRoot", "goTemplate"):
        if not entry.get(key):
            refuse(
                "Could not generate config for published:"
                f' missing "{key}" key in configuration for {prefix}'
            )
    names = ("camliRoot", "goTemplate", "cacheRoot", "sourceRoot")
    settings = {name: entry[name] for name in names if entry.get(name)}
    _add(conversion, prefix, "publisher", entry, settings)


def _add_cabinet(conversion: Conversion, entry: Mapping[str, str]) -> None:
    prefix = entry.get("prefix")
    if not prefix:
        refuse(
            'Could not generate config for scanning cabinet: missing "prefix" key in configuration'
        )
    settings = {"auth": entry["auth"]} if entry.get("auth") else {}
    _add(conversion, prefix, "scanningcabinet", entry, settings)


def _add(
    conversion: Conversion,
    prefix: str,
    program: str,
    entry: Mapping[str, str],
    settings: dict[str, str],
) -> None:
    """Mount one app. settings: what the program itself is told; TLS files are added to it."""
    for source in (entry, conversion.high):
        files = {key: source.get(key) for key in ("httpsCert", "httpsKey")}
        if all(files.values()):
            settings |= {key: str(value) for key, value in files.items()}
            break
    args: dict[str, object] = {
        "prefix": prefix,
        "program": entry.get("program") or program,
        "appConfig": settings,
    }
    args |= {key: entry[key] for key in ("listen", "backendURL", "apiHost") if entry.get(key)}
    if conversion.text("listen"):
        args["serverListen"] = conversion.text("listen")
    if conversion.base_url():
        args["serverBaseURL"] = conversion.base_url()
    conversion.add(prefix, "app", args)
