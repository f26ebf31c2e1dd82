"""The masking of websockets in C, without the package that it is part of.

That package looks up its own version when it is imported, which with all that it needs for it
takes as long as all the rest of a short run.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import Final

Mask = Callable[[bytes, bytes], bytes]
"""Gives bytes under a key of four; the same again gives them back."""


def load_mask() -> Mask:
    """The function in C; where that was not built, the package's own."""
    package = PathFinder.find_spec("websockets")
    folders = package.submodule_search_locations if package is not None else None
    found = PathFinder.find_spec("websockets.speedups", folders)
    if found is None or found.loader is None:
        module = import_module("websockets.utils")
    else:
        module = module_from_spec(found)
        found.loader.exec_module(module)
    mask: Mask = module.apply_mask
    return mask


apply_mask: Final = load_mask()
