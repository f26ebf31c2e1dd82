"""What the machines of the stream report: one NamedTuple for each kind.

`request` is the number that the client gave; `priority` the class: 0 interactive, 1 normal,
2 bulk.
"""

from typing import NamedTuple

from ...blob import Ref, SizedRef
from .frames import Hello, Item, Place

# -- at the server -----------------------------------------------------------------------------


class Put(NamedTuple):
    """A blob has come whole; it is not checked. Answer with `ack` or `error`.

    data: as sent: `packing.unpack(codec, data, size)` where `packed`.
    """

    request: int
    ref: Ref
    data: bytes
    size: int  # of the blob, in bytes
    packed: bool
    no_rush: bool
    priority: int


class Stat(NamedTuple):
    """Answer with `sizes`."""

    request: int
    refs: list[Ref]
    priority: int


class Fetch(NamedTuple):
    """Answer each item with `send_blob` or `error`, then `done`."""

    request: int
    items: list[Item]
    priority: int


class ReadFile(NamedTuple):
    """Answer with `send_blob` and `send_hole`, then `done`. length None: to the end."""

    request: int
    ref: Ref
    offset: int
    length: int | None
    names_only: bool
    with_schema: bool
    priority: int


class Subscribe(NamedTuple):
    """Answer with `arrived(request, cursor, [])`, then with what comes; `error` GONE ends it."""

    request: int
    topics: int
    cursor: bytes


class Stop(NamedTuple):
    """The machine has dropped and answered what was queued; stop producing for it.

    refs: these items alone; empty: the whole request is over.
    """

    request: int
    refs: list[Ref]


# -- at the client -----------------------------------------------------------------------------


class Stored(NamedTuple):
    """These uploads are durable."""

    requests: tuple[int, ...]


class Failed(NamedTuple):
    """An upload was not stored, an item has no answer, or (item None) a request is over."""

    request: int
    item: int | None
    code: int
    text: str


class Sizes(NamedTuple):
    """Sizes of the refs asked, from position `first` on; None: not there. `last`: it is over."""

    request: int
    first: int
    sizes: list[int | None]
    last: bool


class Blob(NamedTuple):
    """A blob (or range) has come whole; it is not checked. Call `release` when it is used up.

    ref: "" for a range or item of `fetch` (its position is `item`). is_schema: it describes what
    follows. place: where its bytes belong in the file. data: as sent, perhaps a view of the message
    that it came in: unpack it where `packed`; empty where names alone were asked for.
    """

    request: int
    item: int
    ref: str
    data: bytes | memoryview
    size: int
    packed: bool
    place: Place | None
    is_schema: bool
    priority: int


class Hole(NamedTuple):
    """The file has zeros here."""

    request: int
    offset: int
    length: int


class Done(NamedTuple):
    """The request is over, with nothing left out unless it was stopped."""

    request: int
    stopped: bool


class Arrived(NamedTuple):
    """New blobs. Keep the cursor when they are dealt with. No blobs: the cursor of now."""

    request: int
    cursor: bytes
    blobs: list[SizedRef]


class Changed(NamedTuple):
    """A change of the index, as JSON."""

    request: int
    cursor: bytes
    change: bytes


# -- at both -----------------------------------------------------------------------------------


class Welcome(NamedTuple):
    """The peer's hello has come; its limits hold from now on."""

    hello: Hello


class Leaving(NamedTuple):
    """The peer begins nothing new. What has begun is still answered."""

    code: int
    text: str


Event = (
    Put
    | Stat
    | Fetch
    | ReadFile
    | Subscribe
    | Stop
    | Stored
    | Failed
    | Sizes
    | Blob
    | Hole
    | Done
    | Arrived
    | Changed
    | Welcome
    | Leaving
)
