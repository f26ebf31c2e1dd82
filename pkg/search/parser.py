"""Search expressions to constraints (pkg/search/README.md, "Expressions")."""

from collections.abc import Iterator
from typing import Final, Protocol

from ..errors import Invalid
from .constraint import Constraint, PermanodeConstraint, both, either, negated
from .gotext import SPACES, quote, unquote
from .lexer import Kind, Token, tokens_of
from .predicates import Resolver, constraint_of

MAX_SIZE: Final = 64 * 1024
"""Characters of an expression."""

MAX_OPERANDS: Final = 1000
MAX_NESTING: Final = 50
"""Parentheses within each other."""

VISIBLE_PERMANODES: Final = Constraint(permanode=PermanodeConstraint(skip_hidden=True))
"""What every expression is narrowed by, and the empty one stands for."""

_HELP: Final = " \nSee: https://perkeep.org/doc/search-ui"


class BadExpression(Invalid):
    """An expression that can't be parsed; the reason is the text for the client."""

    def __init__(self, reason: str) -> None:
        super().__init__("parse", "search expression", reason)

    def __reduce__(self) -> tuple[type, tuple[str]]:  # type: ignore[override]
        return type(self), (self.reason,)


class _Named(Protocol):
    """Anything that has a place in the expression."""

    @property
    def text(self) -> str: ...

    @property
    def position(self) -> int: ...


def parse(expression: str, resolver: Resolver) -> Constraint:
    """The constraint that an expression stands for: visible permanodes, further narrowed.

    resolver: knows named searches and places. Raises BadExpression, and what it raises.
    """
    inner = parse_inner(expression, resolver)
    return VISIBLE_PERMANODES if inner is None else both(VISIBLE_PERMANODES, inner)


def parse_inner(expression: str, resolver: Resolver) -> Constraint | None:
    """The same without the narrowing to visible permanodes; None for an empty expression."""
    if len(expression) > MAX_SIZE:
        raise BadExpression(f"an expression of {len(expression)} characters is over {MAX_SIZE}")
    text = expression.strip(SPACES)
    if not text:
        return None
    return _Parser(tokens_of(text), resolver).parse()


def _error(message: str, token: _Named) -> BadExpression:
    where = f" at position {token.position}, token: {quote(token.text)}"
    return BadExpression(message + where + _HELP)


class _Parser:
    """Recursive descent: `and` binds tighter than `or`, both group to the left."""

    def __init__(self, tokens: list[Token], resolver: Resolver) -> None:
        self._tokens = tokens
        self._resolver = resolver
        self._next = 0
        self._operands = 0

    def parse(self) -> Constraint:
        found = self._alternatives(0)
        token = self._peek()
        if token.kind is Kind.CLOSE:
            raise _error("No matching opening parenthesis", token)
        return found

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        # The last token, END or ERROR, stays for all who still want one.
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _alternatives(self, depth: int) -> Constraint:
        found = self._conjunction(depth)
        while self._peek().kind is Kind.OR:
            self._take()
            found = either(found, self._conjunction(depth))
        return found

    def _conjunction(self, depth: int) -> Constraint:
        found = self._operand(depth)
        while self._peek().kind not in (Kind.OR, Kind.CLOSE, Kind.END):
            if self._peek().kind is Kind.AND:
                self._take()
            found = both(found, self._operand(depth))
        return found

    def _operand(self, depth: int) -> Constraint:
        is_negated = False
        while self._peek().kind is Kind.NOT:
            self._take()
            is_negated = not is_negated
        opening = self._peek()
        found = self._group(depth + 1) if opening.kind is Kind.OPEN else self._atom()
        return negated(found) if is_negated else found

    def _group(self, depth: int) -> Constraint:
        opening = self._take()
        if depth > MAX_NESTING:
            raise _error(f"Over {MAX_NESTING} parentheses within each other", opening)
        if self._peek().kind is Kind.END:
            raise _error("No matching closing parenthesis", opening)
        found = self._alternatives(depth)
        if self._take().kind is not Kind.CLOSE:
            raise _error("No matching closing parenthesis", opening)
        return found

    def _atom(self) -> Constraint:
        self._operands += 1
        token = self._take()
        if self._operands > MAX_OPERANDS:
            raise _error(f"Over {MAX_OPERANDS} terms", token)
        if token.kind is Kind.PREDICATE:
            return self._predicate(token)
        if token.kind is Kind.CLOSE:
            raise _error("No matching opening parenthesis", token)
        if token.kind is Kind.LITERAL:
            raise _error("No support for literals yet", token)
        if token.kind is Kind.QUOTED_LITERAL:
            raise _error("No support for quoted literals yet", token)
        raise _error(token.text if token.kind is Kind.ERROR else "Expected an atom", token)

    def _predicate(self, name: Token) -> Constraint:
        arguments = list(self._arguments())
        atom = Token(Kind.PREDICATE, ":".join([name.text, *arguments]), name.position)
        try:
            return constraint_of(name.text, arguments, self._resolver)
        except Invalid as error:
            raise _error(error.reason, atom) from None

    def _arguments(self) -> Iterator[str]:
        while self._peek().kind in (Kind.ARGUMENT, Kind.QUOTED_ARGUMENT):
            token = self._take()
            if token.kind is Kind.ARGUMENT:
                yield token.text
                continue
            try:
                yield unquote(token.text[1:-1])
            except Invalid as error:
                raise BadExpression(error.reason) from None
