"""Real folders of this machine, and large holes, go in and come back identical.

The planted bug is a restored tree in which one byte, one mode or one time was changed.
"""

import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path

from tests.e2e import trees
from tests.e2e.compare_trees import differences
from tests.e2e.machine import Failed, Machine
from tests.reliability.verdict import Verdict

FOLDERS = [Path("/usr/share"), Path(sysconfig.get_path("stdlib"))]


def run(folder: Path, sparse_bytes: int) -> Verdict:
    trees.sparse(folder / "sparse", sparse_bytes)
    trees.odd_names(folder / "odd names")
    sources = [*FOLDERS, folder / "sparse", folder / "odd names"]
    machine = Machine(folder / "machine")
    problems: list[str] = []
    count = 0
    caught = True
    with machine.serving():
        for source in sources:
            out = folder / "out"
            try:
                ref = machine.run("pk-put", "file", source).last_word
                machine.run("pk-get", "-o", out, ref)
            except Failed as error:
                problems.append(str(error))
                continue
            restored = out / source.name
            count += sum(len(files) + 1 for _, _, files in os.walk(source))
            problems += map(str, differences(source, restored, owners=os.geteuid() == 0))
            caught = caught and all(plant_is_seen(source, restored, plant) for plant in PLANTS)
            shutil.rmtree(out)
    return Verdict("trees", count, len(problems), caught, problems=tuple(problems))


def flip_a_byte(path: Path) -> None:
    mtime_ns = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    os.utime(path, ns=(mtime_ns, mtime_ns))


PLANTS: list[Callable[[Path], None]] = [
    flip_a_byte,
    lambda path: path.chmod(path.stat().st_mode ^ 0o010),
    lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1)),
]


def plant_is_seen(source: Path, restored: Path, plant: Callable[[Path], None]) -> bool:
    """Whether the comparison sees what is changed in one restored file."""
    victim = next(
        path
        for path in sorted(restored.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.stat().st_size
    )
    before = victim.stat()
    plant(victim)
    first = source / victim.relative_to(restored)
    seen = any(differences(first, victim))
    if plant is flip_a_byte:
        plant(victim)
    victim.chmod(before.st_mode & 0o7777)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    return seen
