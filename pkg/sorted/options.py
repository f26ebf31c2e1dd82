"""What a configuration gives a backend: a checked view of its arguments."""

from collections.abc import Mapping
from typing import Self

from ..errors import ConfigError


class Options:
    """Arguments of one backend, taken one by one; what nobody took is refused at the end.

        with Options("storage-filesystem", args) as options:
            path = options.string("path")

    Each method raises ConfigError, naming backend and argument, when the value has another type,
    or is missing and has no default.
    """

    def __init__(self, owner: str, args: Mapping[str, object]) -> None:
        self._owner = owner
        self._left = dict(args)

    def string(self, name: str, default: str | None = None) -> str:
        value = self._take(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "must be a string")
        if default is None and not value:
            # As a path it would be the current folder.
            raise self._wrong(name, "must not be empty")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._take(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON knows one kind of number
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name, "must be a whole number")
        return value

    def boolean(self, name: str, default: bool | None = None) -> bool:
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self._wrong(name, "must be true or false")
        return value

    def table(self, name: str) -> Mapping[str, object]:
        value = self._take(name, None)
        if not isinstance(value, Mapping):
            raise self._wrong(name, "must be a table")
        return value

    def strings(self, name: str, default: list[str] | None = None) -> list[str]:
        value = self._take(name, default)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "must be a list of strings")
        return list(value)

    def integers(self, name: str, default: list[int] | None = None) -> list[int]:
        value = self._take(name, default)
        if not isinstance(value, list) or any(
            not isinstance(item, int) or isinstance(item, bool) for item in value
        ):
            raise self._wrong(name, "must be a list of whole numbers")
        return list(value)

    def string_or_table(self, name: str) -> str | Mapping[str, object]:
        value = self._take(name, None)
        if not isinstance(value, str | Mapping):
            raise self._wrong(name, "must be a string or a table")
        return value

    def _take(self, name: str, default: object) -> object:
        value = self._left.pop(name, default)
        if value is None:
            raise self._wrong(name, "is missing")
        return value

    def _wrong(self, name: str, reason: str) -> ConfigError:
        return ConfigError("configure", f"{self._owner}, {name}", reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        if self._left and failure is None:
            raise self._wrong(", ".join(sorted(self._left)), "unknown")
