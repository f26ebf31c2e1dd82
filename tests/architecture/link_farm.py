"""Make .dev/peatkeep, a folder of links in the shape of the installed package.

mypy, pyright and import-linter can't follow an editable install; they follow this. Made from
`package-dir` of pyproject.toml. Links are to folders and to the files of `pkg`, so run it again
after a file was added directly below `pkg` (./pk check does).
"""

import os
import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(root: Path = ROOT) -> Path:
    """Make the farm anew and return it."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    folders: dict[str, str] = project["tool"]["setuptools"]["package-dir"]
    farm = root / ".dev"
    shutil.rmtree(farm, ignore_errors=True)
    top = farm / "peatkeep"
    top.mkdir(parents=True)
    for entry in (root / folders["peatkeep"]).iterdir():
        if entry.name != "__pycache__":
            _link(top / entry.name, entry)
    for package, folder in folders.items():
        if package != "peatkeep":
            _link(top / package.removeprefix("peatkeep."), root / folder)
    return farm


def _link(place: Path, target: Path) -> None:
    place.symlink_to(os.path.relpath(target, place.parent))


if __name__ == "__main__":
    make()
