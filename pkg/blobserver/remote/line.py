"""How bytes go to a server and come from it. Kept apart, so that asking costs no import."""

from typing import Final, NamedTuple


class Line(NamedTuple):
    """How bytes travel.

    up_bytes_s, down_bytes_s: how fast they may go; None: as fast as they can. over_stream: whether
    the stream is used where the server offers one. Of the stream alone: compress: the zstd level
    for what is sent, and then the server may compress, too; None: neither. patience_s: how long
    uploads may be without an answer.
    """

    compress: int | None = None
    up_bytes_s: int | None = None
    down_bytes_s: int | None = None
    patience_s: float = 120
    over_stream: bool = True


FREE_LINE: Final = Line()
