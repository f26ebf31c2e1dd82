"""The packaging says what the folders are."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _setuptools() -> dict[str, dict[str, str]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        settings: dict[str, dict[str, str]] = tomllib.load(file)["tool"]["setuptools"]
    return settings


def test_the_list_of_packages_equals_the_folders() -> None:
    settings = _setuptools()
    found = set()
    for package, folder in settings["package-dir"].items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *inner]))
    assert set(settings["packages"]) == found


def test_every_top_folder_has_a_readme() -> None:
    folders = ["pkg", "server", "clients", "cmd", "tests"]
    assert [name for name in folders if not (ROOT / name / "README.md").exists()] == []
