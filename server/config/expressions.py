"""Expressions in configuration values: `["_env", …]` and `["_fileobj", …]`.

`["_env", "text ${NAME} text"]` puts variables in; a third element is what an unset or empty
variable stands for, and if that is a boolean, so is the result. `["_fileobj", "name"]` is the
object of another file (server/config/README.md, "Expressions").
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z0-9_]+)\}")
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_DEEPEST_INCLUDE = 10


class Expander:
    """Replaces expressions in a whole configuration.

    environ: the variables. folders: where `_fileobj` looks for a relative name, in order.
    read: returns the object in a file, or raises ConfigError.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        folders: Sequence[Path],
        read: Callable[[Path], dict[str, object]],
    ) -> None:
        self._environ = environ
        self._folders = folders
        self._read = read
        self._open: list[Path] = []

    def expand(self, value: object, key: str = "") -> object:
        """Return `value` without expressions. key: where it stands, for messages.

        What comes out is as JSON has it: TOML's dates are refused. Raises ConfigError.
        """
        match value:
            case ["_env", *rest]:
                return self._env(rest, key)
            case ["_fileobj", *rest]:
                return self._fileobj(rest, key)
            case dict():
                inner = f"{key}." if key else ""
                return {name: self.expand(item, inner + name) for name, item in value.items()}
            case list():
                return [self.expand(item, f"{key}[{i}]") for i, item in enumerate(value)]
            case str():
                return _checked(value, key)
            case None | bool() | int() | float():
                return value
        raise ConfigError("read", key, "a date or time can't stand here: put it in quotes")

    def _env(self, rest: list[object], key: str) -> object:
        match rest:
            case [str(text)]:
                unset = [name for name in _VARIABLE.findall(text) if not self._environ.get(name)]
                if unset:
                    reason = f"the environment variable {unset[0]} is not set"
                    raise ConfigError("read", key, reason)
                return _checked(self._filled(text, ""), key)
            case [str(text), str(default)]:
                return _checked(self._filled(text, default), key)
            case [str(text), bool(default)]:
                names = _VARIABLE.findall(text)
                is_set = all(self._environ.get(name) for name in names)
                return self._boolean(text, key) if is_set else default
            case _:
                form = '["_env", "text with ${NAME}"] or ["_env", "…", a text or boolean]'
                raise ConfigError("read", key, f"an _env expression has the form {form}")

    def _filled(self, text: str, default: str) -> str:
        return _VARIABLE.sub(lambda found: self._environ.get(found[1]) or default, text)

    def _boolean(self, text: str, key: str) -> bool:
        word = self._filled(text, "")
        if word not in _TRUE | _FALSE:
            # Not the word itself: it may be a secret that went into the wrong variable.
            raise ConfigError("read", key, f"the value of {text!r} is neither true nor false")
        return word in _TRUE

    def _fileobj(self, rest: list[object], key: str) -> object:
        match rest:
            case [str(name)]:
                path = self._find(name, key)
            case _:
                raise ConfigError("read", key, 'a _fileobj expression has the form ["_fileobj", F]')
        if path in self._open or len(self._open) == _DEEPEST_INCLUDE:
            chain = " > ".join(map(str, [*self._open, path]))
            raise ConfigError("read", key, f"files include each other: {chain}")
        self._open.append(path)
        try:
            return self.expand(self._read(path), key)
        finally:
            self._open.pop()

    def _find(self, name: str, key: str) -> Path:
        tried = [folder / name for folder in self._folders]
        for path in tried:
            if path.is_file():
                return path.resolve()
        places = ", ".join(dict.fromkeys(str(path) for path in tried))
        raise ConfigError("read", key, f"the file {name} is not there; tried {places}")


def _checked(text: str, key: str) -> str:
    """Return `text` if it can be written and name a file."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigError("read", key, "a zero character or half a surrogate pair stands in it")
    return text
