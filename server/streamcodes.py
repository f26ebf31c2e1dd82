"""What goes wrong, as codes of the stream (pkg/blobserver/STREAM.md, "Errors")."""

import logging
import threading
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..blobserver.wire import Code, Zstd
from ..errors import (
    Corrupt,
    Forbidden,
    Invalid,
    NotFound,
    ReadOnly,
    StoreError,
    TooLarge,
    Unavailable,
    Unsupported,
)

log = logging.getLogger("peatkeep.server.stream")

CODE_OF: Final[Mapping[type[StoreError], int]] = {
    NotFound: Code.NOT_FOUND,
    Corrupt: Code.DAMAGED,
    TooLarge: Code.TOO_LARGE,
    Invalid: Code.MALFORMED,
    Forbidden: Code.FORBIDDEN,
    ReadOnly: Code.NO_SPACE,
    Unsupported: Code.UNSUPPORTED,
    Unavailable: Code.UNAVAILABLE,
}
"""The one table from the error tree to the stream. A class stands for its subclasses."""

ZSTD_LEVEL: Final = 1
"""Quick: a line that gains by more is slow enough for the client to wait on it anyway."""


class Failure(NamedTuple):
    """What an ERROR says."""

    code: int
    text: str


def failure(error: Exception) -> Failure:
    """What to tell of an error. The details of those that are nobody's plan stay in the log."""
    if isinstance(error, StoreError):
        for kind in type(error).__mro__:
            if kind in CODE_OF:
                return Failure(CODE_OF[kind], error.reason or str(error))
    log.error("stream: %s", error, exc_info=not isinstance(error, StoreError) and error)
    return Failure(Code.FAILED, "the server failed; its log says more")


_codecs = threading.local()


def codec() -> Zstd:
    """The codec of this thread: made once, for its memory is not small."""
    found: Zstd | None = getattr(_codecs, "zstd", None)
    if found is None:
        found = _codecs.zstd = Zstd(ZSTD_LEVEL)
    return found
