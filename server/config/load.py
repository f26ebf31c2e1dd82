"""Reading a server configuration: from a file, its text or an object to the record.

    file or text --syntax--> object --expressions--> high level --high_level--> low level
        --low_level--> record

Nothing here reads the environment: `environ` is passed in.
"""

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ... import places
from ...errors import ConfigError
from . import high_keys, high_level, low_level, prepare, syntax
from .expressions import Expander
from .identity import find_key_id
from .record import LowConfig

_LARGEST_BYTES: Final = 1 << 20
_DOWNLOAD_WAIT_S: Final = 30


class Source(NamedTuple):
    """A configuration as it was written.

    name: the file or URL, for messages. path: the file; None for a URL. folder: what relative
    paths in server.toml, and included files, are looked up in.
    """

    values: Mapping[str, object]
    name: str
    path: Path | None = None
    folder: Path = Path()


def load(
    location: str | Path,
    environ: Mapping[str, str],
    *,
    reindex: bool = False,
    keep_going: bool = False,
) -> LowConfig:
    """Return the configuration in a file, or behind an http(s) URL. Raises ConfigError.

    reindex, keep_going: what every index is told, as the flags of the server say.
    """
    return _record(read(location, environ), environ, reindex, keep_going)


def from_values(
    values: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    reindex: bool = False,
    keep_going: bool = False,
) -> LowConfig:
    """Return the configuration that an object of either level stands for. Raises ConfigError."""
    source = Source(values, "configuration")
    source = source._replace(values=_expanded(source, environ))
    return _record(source, environ, reindex, keep_going)


def _record(
    source: Source, environ: Mapping[str, str], reindex: bool, keep_going: bool
) -> LowConfig:
    low = copy.deepcopy(low_level_of(source, environ))
    prefixes = low.get("prefixes")
    for entry in prefixes.values() if isinstance(prefixes, dict) else ():
        args = entry.get("handlerArgs") if isinstance(entry, dict) else None
        if not isinstance(args, dict):
            continue  # without any, or a mistake that `record_of` names
        if entry.get("handler") == "storage-index":
            args |= {"reindex": reindex, "keepGoing": keep_going}
        if entry.get("handler") == "jsonsign" and not args.get("secretRing"):
            args["secretRing"] = str(places.secret_ring_file(environ))
    config = low_level.record_of(low, source.path)
    if source.values.get("handlerConfig") is True:
        return config
    return dataclasses.replace(config, folders=prepare.folders_of(config.prefixes))


def read(location: str | Path, environ: Mapping[str, str]) -> Source:
    """Return what stands in a file or behind a URL, without expressions. Raises ConfigError."""
    if isinstance(location, str) and location.startswith(("http://", "https://")):
        text, path, folder = _download(location), None, Path.cwd()
    else:
        path = Path(location).absolute()
        text, folder = _text(path), path.parent
    values, is_toml = syntax.parse(text, str(location))
    source = Source(values, str(location), path, folder)
    values = _expanded(source, environ)
    if is_toml and path:
        values = syntax.anchor(values, folder, environ.get("HOME", ""))
    return source._replace(values=values)


def low_level_of(source: Source, environ: Mapping[str, str]) -> dict[str, object]:
    """Return the low-level configuration, converted if it is of the high level.

    Raises ConfigError, of a high-level configuration also Untransformable.
    """
    if source.values.get("handlerConfig") is True:
        return dict(source.values)
    high_keys.check(source.values, source.name)
    return high_level.convert(source.values, find_key_id, environ.get("TMPDIR") or "/tmp")  # noqa: S108 - as Perkeep


def _expanded(source: Source, environ: Mapping[str, str]) -> dict[str, object]:
    folders = [Path.cwd(), source.folder]
    if environ.get("HOME") or places.chosen_config_dir(environ):  # a service may have neither
        folders.append(places.config_dir(environ))
    folders += [Path(name) for name in environ.get("CAMLI_INCLUDE_PATH", "").split(":") if name]
    expander = Expander(environ, folders, lambda path: syntax.parse(_text(path), str(path))[0])
    try:
        values = expander.expand(dict(source.values))
    except ConfigError as error:
        subject = f"{source.name}, {error.subject}"
        raise ConfigError(error.operation, subject, error.reason) from None
    except RecursionError:
        raise ConfigError("read", source.name, "it is nested too deeply") from None
    assert isinstance(values, dict)
    return values


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise ConfigError("read", path, "it is over 1 MiB long")
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError("read", path, (error.strerror or str(error)).lower()) from None
    except UnicodeDecodeError:
        raise ConfigError("read", path, "it is not UTF-8 text") from None


def _download(url: str) -> str:
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=_DOWNLOAD_WAIT_S) as answer:  # noqa: S310 - http and https only
            data = answer.read(_LARGEST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError("read", url, str(error)) from None
    if len(data) > _LARGEST_BYTES:
        raise ConfigError("read", url, "it is over 1 MiB long")
    try:
        text: str = data.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError("read", url, "it is not UTF-8 text") from None
    return text
