"""Search expressions to constraints (pkg/search/README.md, "Expressions")."""

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from ..errors import Invalid
from .constraint import Constraint, PermanodeConstraint, both, either, negated
from .gotext import SPACES, quote, unquote
from .lexer import END, Kind, Token, tokens_of
from .predicates import Resolver, constraint_of, moment_of
from .settings import AT, SORT, Setting, as_of, split_settings

MAX_SIZE: Final = 64 * 1024
"""Characters of an expression."""

MAX_OPERANDS: Final = 1000
MAX_NESTING: Final = 50
"""Parentheses within each other."""

VISIBLE_PERMANODES: Final = Constraint(permanode=PermanodeConstraint(skip_hidden=True))
"""What every expression is narrowed by, and the empty one stands for."""

SORTS: Final = ("-created", "created", "-mod", "blobref", "map", "unsorted")
"""The orders that an expression can ask for."""

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


class Parsed(NamedTuple):
    """constraint: visible permanodes, further narrowed. sort: as requests have it; None: unsaid."""

    constraint: Constraint
    sort: str | None = None


def parse(expression: str, resolver: Resolver) -> Constraint:
    """The constraint that an expression stands for, whatever order it asks for."""
    return parse_whole(expression, resolver).constraint


def parse_whole(expression: str, resolver: Resolver) -> Parsed:
    """What an expression stands for.

    resolver: knows named searches and places. Raises BadExpression, and what it raises.
    """
    tokens, settings = split_settings(_tokens(expression))
    inner = _Parser(tokens, resolver).parse() if tokens[0] != END else None
    constraint = VISIBLE_PERMANODES if inner is None else both(VISIBLE_PERMANODES, inner)
    said = dict(map(_setting, settings))
    if AT in said:
        constraint = as_of(constraint, int(said[AT]))
    return Parsed(constraint, said.get(SORT))


def parse_inner(expression: str, resolver: Resolver) -> Constraint | None:
    """The constraint without the narrowing to visible permanodes; None for an empty expression.

    There is no place for settings in it.
    """
    tokens = _tokens(expression)
    return None if tokens[0] == END else _Parser(tokens, resolver).parse()


def _tokens(expression: str) -> list[Token]:
    if len(expression) > MAX_SIZE:
        raise BadExpression(f"an expression of {len(expression)} characters is over {MAX_SIZE}")
    return tokens_of(expression.strip(SPACES))


def _setting(setting: Setting) -> tuple[str, str]:
    """Name and value: an order, or a moment in nanoseconds since 1970."""
    name, arguments = setting.name.text, [_argument(token) for token in setting.arguments]
    atom = Token(Kind.PREDICATE, ":".join([name, *arguments]), setting.name.position)
    if len(arguments) != 1 or not arguments[0]:
        given = f"Wrong number of arguments for {quote(name)}, given {len(arguments)}, expected 1"
        raise _error(given, atom)
    if name == SORT:
        if arguments[0] not in SORTS:
            raise _error(f"Unknown order: {arguments[0]}, expected {', '.join(SORTS)}", atom)
        return name, arguments[0]
    try:
        return name, str(moment_of(arguments[0]))
    except Invalid as error:
        raise _error(error.reason, atom) from None


def _argument(token: Token) -> str:
    if token.kind is Kind.ARGUMENT:
        return token.text
    try:
        return unquote(token.text[1:-1])
    except Invalid as error:
        raise BadExpression(error.reason) from None


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
            yield _argument(self._take())
