"""What every test run shares: counting vectors, naming what could not run.

A test of golden data is marked `@pytest.mark.vectors("schema")` with the folder below
tests/vectors; the summary then says how many of each folder passed.
"""

import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Everywhere as in a CI: no deadlines, which a busy machine misses, and the same examples.
settings.load_profile("ci")

VECTORS = Path(__file__).parent / "vectors"
LONGEST_NAME = 100


@pytest.fixture(scope="session")
def vectors_dir() -> Path:
    return VECTORS


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the home of whoever runs it, or is steered by their settings."""
    for name in list(os.environ):
        if name.startswith(("PK_", "CAMLI_", "PERKEEP_", "XDG_")) or name.lower().endswith(
            "_proxy"
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def _own_umask() -> Generator[None, None, None]:
    """The server narrows the mask of its process; the next test gets the usual one."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a long case by its length: its name is kept, and sent between processes, many times."""
    if isinstance(val, str | bytes) and len(val) > LONGEST_NAME:
        return f"{len(val)} {'characters' if isinstance(val, str) else 'bytes'}"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("vectors"):
            item.user_properties.append(("vectors", mark.args[0]))
        if item.get_closest_marker("serial"):
            item.add_marker(pytest.mark.xdist_group("serial"))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, None, None]:
    yield
    stats = terminalreporter.stats
    total: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for outcome in ("passed", "failed", "error", "skipped", "xfailed", "xpassed"):
        for report in stats.get(outcome, []):
            for name, folder in getattr(report, "user_properties", []):
                if name == "vectors":
                    total[folder] += 1
                    passed[folder] += outcome == "passed"
    for report in stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        terminalreporter.write_line(f"not run: {report.nodeid}: {reason}")
    for line in _verdicts(stats):
        terminalreporter.write_line(line)
    for folder in sorted(total):
        terminalreporter.write_line(f"vectors: {folder} {passed[folder]}/{total[folder]}")
    counts = {name: len(stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")}
    terminalreporter.write_line(
        f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed,"
        f" {counts['skipped']} skipped"
    )


def _verdicts(stats: Mapping[str, list[Any]]) -> Iterator[str]:
    """The lines of the reliability programme, which tests keep as their property `verdict`."""
    for outcome in ("passed", "failed"):
        for report in stats.get(outcome, []):
            yield from (text for name, text in report.user_properties if name == "verdict")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CI"):
        return
    not_run = [*reporter.stats.get("skipped", []), *reporter.stats.get("xfailed", [])]
    if not_run and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
