"""Everything that must hold before a change lands: `./pk check [PATH …]`, `./pk lint`.

Runs format, style, types and import contracts, then all tests in parallel, then those marked
`serial` alone. With paths, only the tests there. Ends with the vectors passed per folder and the
counts; exits 1 when anything failed. With CI set, a skipped test counts as failed.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from architecture import link_farm

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent

LINT = {
    "format": ["ruff", "format", "--check", "."],
    "style": ["ruff", "check", "."],
    "types": ["mypy"],
    "imports": ["lint-imports", "--no-cache"],
}
FIX = "(./pk lint --fix mends format and most of style)"


def run(name: str, command: list[str]) -> bool:
    """Run one program of the environment; print what it said only if it failed."""
    began = time.monotonic()
    done = subprocess.run(
        [BIN / command[0], *command[1:]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ".dev"},
        capture_output=True,
        text=True,
        check=False,
    )
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"{name}: {verdict} ({time.monotonic() - began:.1f} s)", flush=True)
    if done.returncode != 0:
        print(done.stdout, done.stderr, sep="\n", flush=True)
    return done.returncode == 0


def lint() -> bool:
    return all([run(name, command) for name, command in LINT.items()])  # noqa: C419 - run them all


def tests(arguments: list[str]) -> bool:
    """Run pytest once, all workers; tests marked serial share one worker at the end."""
    command = [str(BIN / "python"), "-m", "pytest", "-n", "auto", "--dist", "loadgroup", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    link_farm.make(ROOT)
    if "--lint" in arguments:
        if "--fix" in arguments:
            run("format", ["ruff", "format", "."])
            run("style", ["ruff", "check", "--fix", "."])
        good = lint()
        if not good:
            print(FIX)
        return 0 if good else 1
    paths = [argument for argument in arguments if not argument.startswith("-")]
    lint_good = lint() if not paths else True
    tests_good = tests(arguments)
    if not lint_good:
        print("lint FAILED", FIX)
    print("check:", "ok" if lint_good and tests_good else "FAILED")
    return 0 if lint_good and tests_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
