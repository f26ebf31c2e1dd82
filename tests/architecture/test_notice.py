"""NOTICE names what is installed by default, and nothing of it is GPL or AGPL."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution, metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


def installed_by_default() -> set[str]:
    """Names of all packages that `./pk up` installs, itself left out."""
    found: set[str] = set()
    extras = re.search(r"^SERVED=(.*)$", (ROOT / "pk").read_text(), re.MULTILINE)
    assert extras
    waiting = [("peatkeep", tuple(extras[1].split(",")))]
    while waiting:
        name, wanted_extras = waiting.pop()
        try:
            package: Distribution = distribution(name)
        except PackageNotFoundError:  # for another platform or Python
            continue
        found.add(name)
        for line in package.requires or []:
            wanted = Requirement(line)
            wanted_name = wanted.name.lower().replace("_", "-")
            applies = wanted.marker is None or any(
                wanted.marker.evaluate({"extra": extra}) for extra in (*wanted_extras, "")
            )
            if applies and wanted_name not in found:
                waiting.append((wanted_name, tuple(wanted.extras)))
    return found - {"peatkeep"}


def noticed() -> dict[str, str]:
    rows = re.findall(r"^    (\S+) {2,}(\S.*)$", (ROOT / "NOTICE").read_text(), re.MULTILINE)
    return dict(rows)


def test_the_notice_names_every_package_that_is_installed_by_default() -> None:
    assert installed_by_default() - noticed().keys() == set()


def test_no_package_installed_by_default_is_under_the_gpl() -> None:
    for name in installed_by_default():
        facts = metadata(name)
        licence = " ".join(
            [facts.get("License-Expression") or "", facts.get("License") or ""]
            + [line for line in facts.get_all("Classifier") or [] if line.startswith("License")]
        )
        assert not re.search(r"\b(A?GPL|Affero)|GNU General", licence), f"{name}: {licence}"


def test_the_project_says_nothing_of_machines_and_registries() -> None:
    """No file of ours names a package registry's host."""
    hosts = [
        "pypi" + ".org",
        "pythonhosted" + ".org",
        "registry.npmjs" + ".org",
        "deb.debian" + ".org",
    ]
    ours = [
        path
        for pattern in ("*.md", "*.toml", "*.txt", "pk", "NOTICE", "**/*.py", "**/*.md")
        for path in ROOT.glob(pattern)
        if not {".venv", ".dev", "vectors", ".git"} & set(path.relative_to(ROOT).parts)
    ]
    assert ours
    for path in ours:
        text = path.read_text(errors="replace")
        assert not [host for host in hosts if host in text], path
