"""Which files a backup leaves out: the shell patterns of `ignoredFiles`."""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase, translate
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
        paths = [each.rstrip("/").split("/") for each in expanded if "/" in each]
        self._paths = [(parts, list(map(_python_form, parts))) for parts in paths]
        self._is_empty = not expanded
        # The second line is for a name that is itself no match of its pattern: `[a]`.
        forms = [translate(_python_form(each)) for each in self._names]
        forms += map(re.escape, self._names)
        self._name_form = re.compile("|".join(f"(?:{form})" for form in forms) or r"(?!)")
        self._last_folder = "", False  # a walk asks for all names of a folder in a row

    def __call__(self, file: bytes) -> bool:
        if self._is_empty:
            return False
        text = fsdecode(file)
        folder, _, name = text.rpartition("/")
        if self._name_form.fullmatch(name):
            return True
        known, is_ignored = self._last_folder
        if known != folder:
            parts = folder.split("/")
            is_ignored = any(each in parts for each in self._names)
            self._last_folder = folder, is_ignored
        return is_ignored or (bool(self._paths) and self._fits_path(text.split("/")))

    def _fits_path(self, parts: list[str]) -> bool:
        return any(_fits(parts, *each) for each in self._paths)


def _fits(parts: list[str], wanted: list[str], forms: list[str]) -> bool:
    """forms: those of `wanted`, part by part."""
    if len(parts) == len(forms) and all(map(fnmatchcase, parts, forms)):
        return True
    if wanted[0] == "":  # absolute: itself, and what lies below
        return parts[: len(wanted)] == wanted
    last = len(parts) - len(wanted)
    return any(parts[at : at + len(wanted)] == wanted for at in range(last + 1))


_OTHER_FORM = re.compile(r"\\(.)|\[\^", re.DOTALL)


def _python_form(pattern: str) -> str:
    r"""As fnmatch has it a pattern in which `\*` is a star, and `[^a]` what is no `a`."""

    def form(found: re.Match[str]) -> str:
        if found[1] is None:
            return "[!"
        return f"[{found[1]}]" if found[1] in "*?[" else found[1]

    return _OTHER_FORM.sub(form, pattern)
