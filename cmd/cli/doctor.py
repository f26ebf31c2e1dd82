"""`pk doctor`: look at everything that a backup depends on, and say what to do."""

import os
import stat
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

import click

from .. import places
from ..blobserver.remote.discovery import MEDIA_TYPE
from ..clients.config import ClientConfig, read_config
from ..errors import StoreError
from .about import ring_file, signing_key
from .common import Command, Session, json_flag, message_of, outcome_of, server_flag
from .connection import Connection

CLOCK_SLACK_S = 60.0
"""Claims are ordered by their dates: clocks that differ by more mix up what came last."""

FREE_BYTES = 100_000_000


class Finding(NamedTuple):
    """One line: what was looked at, what was found; `hint` says what to do where it is bad."""

    subject: str
    text: str
    hint: str = ""
    is_problem: bool = False


def problem(subject: str, text: str, hint: str = "") -> Finding:
    return Finding(subject, text, hint, is_problem=True)


@click.command(cls=Command)
@server_flag
@json_flag
@click.pass_obj
def doctor(session: Session) -> int:
    """Check configuration, key, server, credentials, clock and caches."""
    problems = 0
    for finding in findings(session):
        problems += finding.is_problem
        word = "problem" if finding.is_problem else "ok"
        text = f"{word:8}{finding.subject:14}{finding.text}"
        if finding.hint:
            text += f"\n{'':8}{'':14}hint: {finding.hint}"
        session.output.result(text, status=word, **finding._asdict())
    return session.program.failed_exit if problems else 0


def findings(session: Session) -> Iterator[Finding]:
    """What is found, in the order in which one thing builds on another."""
    try:
        config = read_config(os.environ)
    except StoreError as error:
        yield problem("configuration", str(error), "pk init makes one")
        return
    yield configuration(config)
    yield from key_file(session, config)
    yield from server(session, config)
    yield from caches()


def configuration(config: ClientConfig) -> Finding:
    if config.path is None:
        return Finding("configuration", "from environment variables alone")
    return private_file("configuration", config.path)


def private_file(subject: str, path: Path) -> Finding:
    """Whether a file with secrets is its owner's alone."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return problem(subject, f"{path} can be read by others ({mode:04o})", f"chmod 600 {path}")
    return Finding(subject, str(path))


def key_file(session: Session, config: ClientConfig) -> Iterator[Finding]:
    try:
        ring = ring_file(session, config)
        key = signing_key(ring, config.identity)
    except StoreError as error:
        hint = "pk init -newkey makes a key; without one nothing can be tagged, shared or deleted"
        yield problem("key", str(error), hint)
        return
    yield private_file("key", ring)
    locked = "; its passphrase is asked for when it signs" if key.is_locked else ""
    yield Finding("identity", f"{key.key_id}, {key.public_ref}{locked}")


def server(session: Session, config: ClientConfig) -> Iterator[Finding]:
    try:
        connection = Connection(session)
        began_s = time.time()
        path = connection.transport.address.path or "/"
        response = connection.transport.request("GET", path, headers={"Accept": MEDIA_TYPE})
        rtt_s = time.time() - began_s
    except StoreError as error:
        yield problem("server", message_of(error), "is it running, and is the address right?")
        return
    entry = connection.entry
    alias = f" ({entry.alias})" if entry.alias else ""
    yield Finding("server", f"{entry.url}{alias} answers in {rtt_s * 1000:.0f} ms")
    yield clock(response.headers.get("Date", ""), began_s + rtt_s / 2)
    try:
        document = connection.discovery
    except StoreError as error:
        yield problem("credentials", message_of(error), outcome_of(error).hint)
        return
    yield Finding("credentials", "accepted")
    generation = document.generation
    if generation is None:
        reason = document.string("storageGenerationError") or "the server names none"
        yield problem("generation", reason, "putting again will send everything again")
    else:
        yield Finding("generation", f"{generation.token} since {generation.initialised:%Y-%m-%d}")
    if not document.search_root:
        yield problem(
            "index", "the server has none", "put and get work; describe and search do not"
        )
    yield from same_key(session, config, str(document.signing.get("publicKeyId", "")))


def clock(date: str, here_s: float) -> Finding:
    """How far the clocks differ. here_s: our time when the server wrote that Date header."""
    try:
        ahead_s = parsedate_to_datetime(date).timestamp() - here_s
    except ValueError:
        return problem("clock", "the server does not tell its time")
    if abs(ahead_s) > CLOCK_SLACK_S:
        word = "ahead of" if ahead_s > 0 else "behind"
        text = f"the server's is {abs(ahead_s):.0f} s {word} ours"
        return problem("clock", text, "set both by NTP: claims are ordered by their dates")
    return Finding("clock", "ours and the server's agree")


def same_key(session: Session, config: ClientConfig, server_key_id: str) -> Iterator[Finding]:
    """Whether the server takes our claims for its owner's."""
    try:
        own = signing_key(ring_file(session, config), config.identity).key_id
    except StoreError:
        return  # told already
    if server_key_id and server_key_id != own:
        text = f"the server's owner signs with {server_key_id}, this machine with {own}"
        yield problem("identity", text, "copy the owner's keyring here, or sign as somebody else")


def caches() -> Iterator[Finding]:
    folder = places.cache_dir(os.environ)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = [path.lstat() for path in folder.rglob("*")]
        space = os.statvfs(folder)
    except OSError as error:
        yield problem(
            "cache", f"{folder}: {error.strerror}", "every put will send everything again"
        )
        return
    size = sum(found.st_size for found in files if stat.S_ISREG(found.st_mode))
    free = space.f_bavail * space.f_frsize
    text = f"{folder}: {size / 1e6:.1f} MB used, {free / 1e6:.0f} MB free"
    if not os.access(folder, os.W_OK):
        yield problem("cache", f"{folder} can't be written", f"chown it to {os.getuid()}")
    elif free < FREE_BYTES:
        yield problem("cache", text, "make room: a full disk makes every put slow")
    else:
        yield Finding("cache", text)
