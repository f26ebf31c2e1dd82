"""The client that a command works with, and what is shown while it works."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .common import Output, Session
from .line import line_of

if TYPE_CHECKING:  # the library is slow to import, which --help can't wait for
    from rich.progress import Progress as Bar

    from ..clients.client import Client
    from ..clients.progress import Progress

SHOWN_EVERY_S = 0.2
JSON_EVERY_S = 1.0


def open_client(session: Session, *, insecure: bool = False) -> "Client":
    """The client of the server that flags, environment and configuration say."""
    context = click.get_current_context()
    blobdir = context.meta.get("blobdir")
    if blobdir:
        from ..clients.targets import local_client

        return local_client(os.environ, blobdir, session.secret_keyring)
    from ..clients.client import Client

    client = Client.from_environment(
        os.environ,
        session.server,
        secret_ring=session.secret_keyring,
        insecure=insecure,
        line=line_of(),
        note=session.output.note,
    )
    if session.is_verbose:
        client.transport.on_request = lambda method, path: session.output.note(f"{method} {path}")
    return client


@contextmanager
def shown(
    progress: "Progress",
    output: Output,
    count: Callable[[], Iterator[tuple[int, int]]] | None = None,
) -> Iterator[None]:
    """Show how far the work has come while the block runs: a bar on a terminal, lines in JSON.

    count: yields files and bytes that there are to do, piece by piece.
    """
    progress.on_problem = output.problem
    is_quiet = click.get_current_context().meta.get("quiet")
    if is_quiet or not (output.shows_progress or output.as_json):
        yield
        return
    ended = threading.Event()
    show = _show_json if output.as_json else _show_bar
    threads = [threading.Thread(target=show, args=(progress, ended), daemon=True)]
    if count is not None:
        threads.append(threading.Thread(target=_count, args=(progress, count, ended), daemon=True))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _count(
    progress: "Progress", count: Callable[[], Iterator[tuple[int, int]]], ended: threading.Event
) -> None:
    files_total = total_bytes = 0
    for files, size_bytes in count():
        files_total += files
        total_bytes += size_bytes
        if ended.is_set():
            return
    progress.files_total, progress.total_bytes = files_total, total_bytes


def _show_json(progress: "Progress", ended: threading.Event) -> None:
    import json

    while not ended.wait(JSON_EVERY_S):
        line = {
            "progress": {
                "files": progress.files,
                "bytes": progress.size_bytes,
                "sentBytes": progress.sent_bytes,
                "filesTotal": progress.files_total,
                "bytesTotal": progress.total_bytes,
            }
        }
        sys.stdout.write(json.dumps(line) + "\n")  # one write: lines never mix
        sys.stdout.flush()


def _show_bar(progress: "Progress", ended: threading.Event) -> None:
    if ended.wait(SHOWN_EVERY_S):
        return  # done before anybody could have looked
    with _bar() as bar:
        task = bar.add_task("", total=None, files="")
        while True:
            of_total = f"/{progress.files_total}" if progress.files_total is not None else ""
            bar.update(
                task,
                completed=progress.size_bytes,
                total=progress.total_bytes,
                files=f"{progress.files}{of_total} files",
            )
            if ended.wait(SHOWN_EVERY_S):
                return


def _bar() -> "Bar":
    from rich import progress as columns
    from rich.console import Console

    return columns.Progress(
        columns.BarColumn(),
        columns.TextColumn("{task.fields[files]}"),
        columns.DownloadColumn(binary_units=True),
        columns.TransferSpeedColumn(),
        columns.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def file_argument(name: str) -> bytes:
    """A path from the command line as the file system has it."""
    return os.fsencode(name)


def read_input(name: str, limit_bytes: int) -> bytes:
    """The bytes of a file, or of standard input for `-`; at most one more than the limit."""
    if name == "-":
        return sys.stdin.buffer.read(limit_bytes + 1)
    with Path(name).open("rb") as file:
        return file.read(limit_bytes + 1)
