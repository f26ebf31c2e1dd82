"""What a line of the reliability programme came to."""

from typing import NamedTuple


class Verdict(NamedTuple):
    """name: the line's name. n: how many cases ran. bad: how many broke a promise.

    planted_caught: whether the planted bug was found; a check that lets it pass is worthless.
    notes: more figures. problems: one line for each bad case.
    """

    name: str
    n: int
    bad: int
    planted_caught: bool
    notes: str = ""
    problems: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.n > 0 and self.bad == 0 and self.planted_caught

    def __str__(self) -> str:
        word = "PASS" if self.passed else "FAIL"
        planted = "" if self.planted_caught else " (the planted bug was not found)"
        return f"{self.name} n={self.n} bad={self.bad} {self.notes} {word}{planted}"
