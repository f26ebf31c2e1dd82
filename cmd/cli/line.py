"""Flags that say how blobs travel: compressed, at which rate, over the stream or by requests."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from .. import places
from .common import Decorated, switch

if TYPE_CHECKING:
    from ..blobserver.remote import Line


class ByteRate(click.ParamType[int]):
    """Bytes per second: a number, and K, M or G for thousands, millions, thousands of millions."""

    name = "rate"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        text = str(value).strip().upper().removesuffix("B")
        scale = {"K": 1_000, "M": 1_000_000, "G": 1_000_000_000}.get(text[-1:], 1)
        try:
            rate = int(float(text.rstrip("KMG")) * scale)
        except (ValueError, OverflowError):
            rate = 0
        if rate < 1:
            self.fail(
                f"{value!r} is no number of bytes per second, such as 500K or 2.5M", param, ctx
            )
        return rate


def line_flags(function: Decorated) -> Decorated:
    """The flags of programs that move many blobs; `line_of` reads them."""
    flags = [
        click.option(
            "--compress",
            metavar="LEVEL",
            type=click.IntRange(1, 22),
            expose_value=False,
            callback=_keep_meta("compress"),
            help="Compress on the way, by zstd; 1 is quick, 22 slow.",
        ),
        click.option(
            "--limit-up",
            metavar="RATE",
            type=ByteRate(),
            expose_value=False,
            callback=_keep_meta("limit_up"),
            help="Bytes per second to send at most: 500K, 2M.",
        ),
        click.option(
            "--limit-down",
            metavar="RATE",
            type=ByteRate(),
            expose_value=False,
            callback=_keep_meta("limit_down"),
            help="Bytes per second to take at most.",
        ),
        switch(
            "--plain-http",
            expose_value=False,
            callback=_keep_meta("plain_http"),
            help="Use requests alone, not the stream; as PK_STREAM=0.",
        ),
    ]
    for flag in reversed(flags):
        function = flag(function)
    return function


def line_of() -> "Line":
    """How bytes travel, by the flags of `line_flags` and PK_STREAM."""
    from ..blobserver.remote.line import Line  # --help can't wait for its package

    context = click.get_current_context(silent=True)
    meta = context.meta if context is not None else {}
    return Line(
        meta.get("compress"),
        meta.get("limit_up"),
        meta.get("limit_down"),
        over_stream=not meta.get("plain_http") and places.wants_stream(os.environ),
    )


def _keep_meta(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that keeps a flag's value where all commands of the program find it."""

    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            ctx.meta[name] = value

    return callback
