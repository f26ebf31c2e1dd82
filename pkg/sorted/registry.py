"""Which sorted key-value stores there are, by the name that a configuration uses."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Protocol

from ..errors import ConfigError, Unsupported
from .kv import KeyValue

BUILTIN: Final = {
    "buffer": "peatkeep.sorted.buffer:BufferKeyValue",
    "leveldb": "peatkeep.sorted.leveldb:LevelDBKeyValue",
    "lmdb": "peatkeep.sorted.lmdb:LMDBKeyValue",
    "memory": "peatkeep.sorted.memory:MemoryKeyValue",
    "postgres": "peatkeep.sorted.sql:PostgresKeyValue",
    "sql": "peatkeep.sorted.sql:SQLKeyValue",
    "sqlite": "peatkeep.sorted.sqlite:SQLiteKeyValue",
}
"""Type name -> "module:class". Modules are imported when they are asked for."""

EXTRAS: Final = {"postgres": ("sql", "sqlalchemy"), "sql": ("sql", "sqlalchemy")}
"""Type name -> the extra that it needs, and a module which that brings."""

ENTRY_POINTS: Final = "peatkeep.sorted"
"""The entry point group by which other distributions add types; each names such a class."""


class KeyValueClass(Protocol):
    """What a registered class offers."""

    def from_config(self, args: Mapping[str, object]) -> KeyValue:
        """Open by the arguments of the configuration, without `type`. Raises ConfigError."""
        ...


def open_kv(args: Mapping[str, object]) -> KeyValue:
    """Open the store that a configuration describes: {"type": "leveldb", "file": "/a/b"}.

    Raises ConfigError for an unknown type or arguments that do not fit it, Unsupported when an
    extra is not installed, and what opening raises.
    """
    rest = dict(args)
    kind = rest.pop("type", None)
    if not isinstance(kind, str):
        raise ConfigError("open", "sorted key-value store", 'needs a "type"')
    return _class_of(kind).from_config(rest)


def missing_extra(kind: str) -> str:
    """The extra of peatkeep that the type needs and that is not installed; "" if none."""
    extra, module = EXTRAS.get(kind, ("", ""))
    return extra if extra and find_spec(module) is None else ""


def needs(extra: str) -> str:
    """What to say when an extra is missing."""
    return f'needs the extra "{extra}": pip install "peatkeep[{extra}]", or ./pk setup {extra}'


def _class_of(kind: str) -> KeyValueClass:
    found: KeyValueClass
    if kind in BUILTIN:
        extra = missing_extra(kind)
        if extra:
            raise Unsupported("open", f"sorted key-value store of type {kind!r}", needs(extra))
        module, _, name = BUILTIN[kind].partition(":")
        found = getattr(import_module(module), name)
        return found
    from importlib.metadata import entry_points  # costs 10 ms: only where needed

    for point in entry_points(group=ENTRY_POINTS, name=kind):
        found = point.load()
        return found
    raise ConfigError("open", f"sorted key-value store of type {kind!r}", "unknown type")
