"""Search expressions as tokens (pkg/search/README.md, "Expressions")."""

import re
from enum import Enum, auto
from typing import Final, NamedTuple

from .gotext import SPACES


class Kind(Enum):
    """What a token is. ERROR: nothing behind it was read; its text says why."""

    OPEN = auto()
    CLOSE = auto()
    NOT = auto()
    AND = auto()
    OR = auto()
    PREDICATE = auto()
    ARGUMENT = auto()
    QUOTED_ARGUMENT = auto()
    LITERAL = auto()
    QUOTED_LITERAL = auto()
    ERROR = auto()
    END = auto()


class Token(NamedTuple):
    """text: as written, quotes included. position: byte offset in the expression; -1: its end."""

    kind: Kind
    text: str
    position: int


END: Final = Token(Kind.END, "", -1)

_BLANKS = re.compile(r"[ \t\n\v\f\r]*")
_WORD = re.compile(f"[^:(){SPACES}]*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_OPERATOR = re.compile(r"(and|or)(?=[ \t\n\v\f\r(])")
_LAST: Final = frozenset({Kind.ERROR, Kind.LITERAL, Kind.QUOTED_LITERAL})
_UNCLOSED: Final = "Unclosed quote"


def tokens_of(text: str) -> list[Token]:
    """The tokens up to END, or to the first one that no expression may have: ERROR or a literal.

    text: without white space around it.
    """
    return _Lexer(text).tokens()


class _Lexer:
    """One pass over a text. Where an operand is expected, `and` and `or` are words."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._offset = 0  # the place in bytes, as tokens tell it
        self._tokens: list[Token] = []

    def tokens(self) -> list[Token]:
        is_operand_next = True
        while True:
            self._move(self._match_end(_BLANKS))
            if self._place == len(self._text):
                self._tokens.append(END)
                return self._tokens
            is_operand_next = self._step(is_operand_next)
            if self._tokens[-1].kind in _LAST:
                return self._tokens

    def _step(self, is_operand_next: bool) -> bool:
        """Read an operand, a parenthesis or an operator. Whether an operand is next, now."""
        operator = None if is_operand_next else _OPERATOR.match(self._text, self._place)
        if operator is not None:
            self._emit(Kind.AND if operator[0] == "and" else Kind.OR, operator.end())
            return True
        char = self._text[self._place]
        if char == "-":
            self._emit(Kind.NOT, self._place + 1)
            return True
        if char == "(":
            self._emit(Kind.OPEN, self._place + 1)
            return True
        if char == ")":
            self._emit(Kind.CLOSE, self._place + 1)
        elif char == '"':
            self._quoted(Kind.QUOTED_LITERAL)
        else:
            self._predicate_or_word()
        return False

    def _predicate_or_word(self) -> None:
        end = self._place
        while self._text[end : end + 1].isalpha():
            end += 1
        if not self._text.startswith(":", end):
            self._emit(Kind.LITERAL, self._match_end(_WORD))
            return
        self._emit(Kind.PREDICATE, end)
        while self._text.startswith(":", self._place):
            self._move(self._place + 1)
            if self._text.startswith('"', self._place):
                self._quoted(Kind.QUOTED_ARGUMENT)
            else:
                self._emit(Kind.ARGUMENT, self._match_end(_WORD))

    def _quoted(self, kind: Kind) -> None:
        match = _QUOTED.match(self._text, self._place)
        if match is None:
            self._tokens.append(Token(Kind.ERROR, _UNCLOSED, self._offset))
            self._move(len(self._text))
        else:
            self._emit(kind, match.end())

    def _match_end(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._place)
        return self._place if match is None else match.end()

    def _emit(self, kind: Kind, end: int) -> None:
        self._tokens.append(Token(kind, self._text[self._place : end], self._offset))
        self._move(end)

    def _move(self, end: int) -> None:
        self._offset += len(self._text[self._place : end].encode("utf-8", "replace"))
        self._place = end
