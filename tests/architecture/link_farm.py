"""Make .dev/peatkeep, a folder of links in the shape of the installed package.

Python, mypy and import-linter see the package there: `pk setup` names .dev in a .pth file, in
place of the import hook of an editable install, which no type checker can follow and which takes
15 ms of every start. Made from `package-dir` of pyproject.toml. Links are to folders and to the
files of `pkg`, so run it again after a file was added directly below `pkg` (./pk check does).
"""

import os
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make(root: Path = ROOT) -> Path:
    """Bring the farm up to date and return it. What is right stays: programs may be running."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    folders: dict[str, str] = project["tool"]["setuptools"]["package-dir"]
    farm = root / ".dev"
    top = farm / "peatkeep"
    top.mkdir(parents=True, exist_ok=True)
    targets = {entry.name: entry for entry in (root / folders["peatkeep"]).iterdir()}
    targets.pop("__pycache__", None)
    for package, folder in folders.items():
        if package != "peatkeep":
            targets[package.removeprefix("peatkeep.")] = root / folder
    for entry in top.iterdir():
        if entry.name not in targets and entry.is_symlink():
            entry.unlink()
    for name, target in targets.items():
        _link(top / name, os.path.relpath(target, top))
    return farm


def _link(place: Path, target: str) -> None:
    if place.is_symlink() and str(place.readlink()) == target:
        return
    place.unlink(missing_ok=True)
    place.symlink_to(target)


if __name__ == "__main__":
    make()
