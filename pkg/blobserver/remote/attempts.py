"""When a stream that was cut is opened anew, and when it is given up. Pure."""

from collections.abc import Sequence
from typing import Final

MOST_FRUITLESS: Final = 10
"""Connections in a row that are cut before they have brought anything, until we give up."""

BROKEN_OFF_COUNTS: Final = 3
"""As so many counts one that lasted, and on which the server did not do its part."""


class Attempts:
    """Counts connections in a row that brought nothing.

    waits_s: before each try to connect, where the last one failed or was fruitless.
    """

    def __init__(self, waits_s: Sequence[float]) -> None:
        self._waits_s = tuple(waits_s)
        self._fruitless = 0

    def after(self, *, brought: bool, was_broken_off: bool) -> tuple[float, ...]:
        """A connection has ended: how long to wait before each try to have another; none: give up.

        brought: whether anything was answered on it. was_broken_off: by us, as Ended has it.
        """
        if brought:
            self._fruitless = 0
            return (0.0, *self._waits_s)
        self._fruitless += BROKEN_OFF_COUNTS if was_broken_off else 1
        return self._waits_s if self._fruitless <= MOST_FRUITLESS else ()
