"""What a server is started from: the low-level configuration as typed records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Prefix:
    """One handler and where it is mounted.

    handler: its type, e.g. `root`, `storage-filesystem`. args: its `handlerArgs`, as configured.
    internal: answers other handlers only. deletable: blobs may be removed through this prefix
    (peatkeep's own member `deletable`; Perkeep never allows it over HTTP).
    """

    handler: str
    args: Mapping[str, object] = field(default_factory=dict)
    enabled: bool = True
    internal: bool = False
    deletable: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """When a peer is cut off (table `[limits]`). Seconds, bytes, counts.

    header_wait_s: from the connection's start, or the end of the answer before, to the end of the
    header once its first byte came. idle_wait_s: kept-alive and silent. body_wait_s: no byte of a
    body arrives. write_wait_s: no byte of an answer is taken. body_bytes_per_s: slowest mean rate
    of a request body after `body_wait_s`. connections: open at once; more are refused.
    """

    header_wait_s: float = 15.0
    idle_wait_s: float = 75.0
    body_wait_s: float = 30.0
    write_wait_s: float = 60.0
    body_bytes_per_s: int = 500
    header_bytes: int = 131_072
    connections: int = 4096


@dataclass(frozen=True, slots=True)
class LowConfig:
    """A whole server: who may come in, where it listens, and the handlers by prefix.

    auth: as written, e.g. `userpass:alice:secret`; it is secret: see `redact`.
    listen: `host:port` or `:port`; "" when the file leaves it to the flag.
    base_url: public URL without a path; "" when it follows from `listen`.
    https_cert, https_key: paths of PEM files, both or neither.
    prefixes: by path (`/bs/`), in no order that matters.
    path: the file that it came from, for messages; None when made in memory.
    folders: those that `prepare.make_folders` makes if they are missing.
    source: the same as the object that it was read from (JSON of the low level); {} when the
    record was made directly.
    """

    auth: str
    listen: str
    prefixes: Mapping[str, Prefix]
    base_url: str = ""
    https: bool = False
    https_cert: str = ""
    https_key: str = ""
    limits: Limits = field(default_factory=Limits)
    path: Path | None = None
    folders: tuple[Path, ...] = ()
    source: Mapping[str, object] = field(default_factory=dict)
