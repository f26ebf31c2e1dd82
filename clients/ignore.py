"""Which files a backup leaves out: the shell patterns of `ignoredFiles`."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from os import fsdecode

from .. import places


class Ignored:
    """Answers whether a path is left out.

    A pattern without `/` is compared with the last part of the path, any other with the whole
    path, part by part. Besides, an absolute path leaves out itself and all below it, and a
    relative one whatever has these parts in a row. `~/` stands for the home directory.
    """

    def __init__(self, patterns: Sequence[str], environ: Mapping[str, str]) -> None:
        expanded = [
            str(places.expand(environ, each)) if each[:2] == "~/" else each
            for each in patterns
            if each
        ]
        self._names = [each for each in expanded if "/" not in each]
        self._paths = [each for each in expanded if "/" in each]
        self._is_empty = not expanded

    def __call__(self, file: bytes) -> bool:
        if self._is_empty:
            return False
        text = fsdecode(file)
        name = text.rpartition("/")[2]
        if any(fnmatchcase(name, each) for each in self._names):
            return True
        parts = text.split("/")
        return any(_fits(parts, each.rstrip("/").split("/")) for each in self._paths) or any(
            each in parts for each in self._names
        )


def _fits(parts: list[str], wanted: list[str]) -> bool:
    if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
        return True
    if wanted[0] == "":  # absolute: itself, and what lies below
        return parts[: len(wanted)] == wanted
    last = len(parts) - len(wanted)
    return any(parts[at : at + len(wanted)] == wanted for at in range(last + 1))
