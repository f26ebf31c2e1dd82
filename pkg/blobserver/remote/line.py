"""How the stream to a server is to be used. Kept apart, so that asking costs no import."""

from typing import Final, NamedTuple


class Line(NamedTuple):
    """How the stream is to be used.

    compress: the zstd level for what is sent; then the server may compress, too. None: neither.
    up_bytes_s, down_bytes_s: how fast bytes may go; None: as fast as they can.
    """

    compress: int | None = None
    up_bytes_s: int | None = None
    down_bytes_s: int | None = None
    patience_s: float = 120


FREE_LINE: Final = Line()
