"""Who may do what: the one place that grants rights to a request.

The configuration names one or more modes (server/README.md, "Authentication"); a request holds the
rights of any single mode that has all that are asked for. Credentials are compared in constant
time. A browser sends some credentials on its own (a remembered password, the address of a local
peer), so what another site's page makes it send is refused by `is_foreign`.
"""

import base64
import binascii
import enum
import hmac
import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from starlette.requests import Request

from ..errors import ConfigError
from .forms import query_of
from .peers import LocalPeers


class Right(enum.Flag):
    """What one may be allowed to do. A route names what it needs."""

    NONE = 0
    UPLOAD = enum.auto()
    STAT = enum.auto()
    GET = enum.auto()
    ENUMERATE = enum.auto()
    REMOVE = enum.auto()
    SIGN = enum.auto()
    DISCOVERY = enum.auto()
    ALL = UPLOAD | STAT | GET | ENUMERATE | REMOVE | SIGN | DISCOVERY
    VIVIFY = UPLOAD | STAT | GET | DISCOVERY
    READ = STAT | GET | ENUMERATE | DISCOVERY


NEEDS_WITH_UPLOAD = Right.STAT | Right.GET | Right.DISCOVERY
"""Who uploads asks what is there first, so the right to upload counts only with these."""

NO_TOKEN = "OmitAuthToken"  # noqa: S105 - the word that discovery sends where none is needed

_BASIC = re.compile(r"Basic ([A-Za-z0-9+/=]+)")
_TOKEN = re.compile(r"Token ([A-Za-z0-9]+)")


def same(a: str, b: str) -> bool:
    """Compare secrets; the time taken does not depend on where they differ."""
    return hmac.compare_digest(a.encode("utf-8", "replace"), b.encode("utf-8", "replace"))


def basic_credentials(request: Request) -> tuple[str, str] | None:
    """The name and password of the request. What follows the base64 text is ignored."""
    match = _BASIC.match(request.headers.get("authorization", ""))
    if match is None:
        return None
    try:
        text = base64.b64decode(match[1], validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


def sent_token(request: Request) -> str:
    """The token of the request: of the header, or the query of a request for a websocket.

    Only what says `Upgrade: websocket` may carry it in its URL: browsers cannot add headers there.
    """
    match = _TOKEN.match(request.headers.get("authorization", ""))
    if match is not None:
        return match[1]
    if request.method == "GET" and request.headers.get("upgrade") == "websocket":
        return query_of(request).get("authtoken", "")
    return ""


class Tokens(NamedTuple):
    """Random words of this process that stand for rights; discovery hands them out.

    limited: for those who came with the restricted password: it opens no more than that did.
    """

    full: str
    limited: str

    @classmethod
    def random(cls) -> "Tokens":
        return cls(secrets.token_hex(20), secrets.token_hex(20))

    def rights(self, request: Request) -> Right:
        token = sent_token(request)
        if token and same(token, self.full):
            return Right.ALL
        if token and same(token, self.limited):
            return Right.VIVIFY
        return Right.NONE


class Mode(Protocol):
    """One way of letting people in."""

    def rights(self, request: Request) -> Right:
        """The rights that this request holds by this mode."""
        ...


class Everybody:
    """`none`: no check at all."""

    def rights(self, request: Request) -> Right:  # noqa: ARG002 - the shape of every mode
        return Right.ALL


class LocalPeer:
    """`localhost`: everything for programs of the server's own user on this machine."""

    def __init__(self, peers: LocalPeers) -> None:
        self._peers = peers

    def rights(self, request: Request) -> Right:
        return Right.ALL if self._peers.is_own(request) else Right.NONE


class Passwords:
    """A password for everything, perhaps one for little, and the process tokens.

    name: the user name, or None where any will do. password: opens everything.
    vivify: opens upload, stat, get and discovery; "" for none.
    """

    def __init__(self, name: str | None, password: str, vivify: str, tokens: Tokens) -> None:
        self._name = name
        self._password = password
        self._vivify = vivify
        self._tokens = tokens

    def rights(self, request: Request) -> Right:
        credentials = basic_credentials(request)
        if credentials is None:
            return self._tokens.rights(request)
        name, password = credentials
        # Both parts are always compared, so that the time says nothing about either.
        is_name = self._name is None or same(name, self._name)
        is_full = same(password, self._password)
        is_limited = same(password, self._vivify) and self._vivify != ""
        if not is_name:
            return Right.NONE
        return Right.ALL if is_full else Right.VIVIFY if is_limited else Right.NONE


def modes_of(text: str, tokens: Tokens, peers: LocalPeers) -> list[Mode]:
    """The modes that one configured `auth` text stands for. Raises ConfigError."""
    kind, _, rest = text.partition(":")
    fields = rest.split(":")
    if text == "none":
        return [Everybody()]
    if text == "localhost":
        return [LocalPeer(peers)]
    if kind == "userpass" and len(fields) >= 2:
        return _userpass(fields, tokens, peers)
    if kind == "basic" and len(fields) == 2:
        return _userpass(fields, tokens, peers)
    if kind == "token" and rest:
        # Only the token of the process opens, never the configured word.
        return [tokens]
    if kind == "devauth" and rest:
        return [Passwords(None, rest, "vivi" + rest, tokens), LocalPeer(peers)]
    if kind == "tailscale":
        raise ConfigError(
            "read config", "auth", "tailscale is not supported: use userpass behind the tailnet"
        )
    # The text may hold a password: it is not repeated.
    raise ConfigError(
        "read config",
        "auth",
        f"{kind!r} is not one of none, localhost, basic:NAME:PASSWORD, token:WORD,"
        " devauth:PASSWORD, userpass:NAME:PASSWORD[:+localhost][:vivify=PASSWORD]",
    )


def _userpass(fields: Sequence[str], tokens: Tokens, peers: LocalPeers) -> list[Mode]:
    name, password, *options = fields
    vivify = ""
    modes: list[Mode] = []
    for option in options:
        if option == "+localhost":
            modes.append(LocalPeer(peers))
        elif option.startswith("vivify="):
            vivify = option.removeprefix("vivify=")
        else:
            raise ConfigError(
                "read config",
                "auth",
                "after name and password come only +localhost and vivify=PASSWORD"
                " (a password cannot hold a colon)",
            )
    return [Passwords(name, password, vivify, tokens), *modes]


class Auth:
    """The modes of this server, asked in order."""

    def __init__(
        self, texts: Sequence[str], peers: LocalPeers, tokens: Tokens | None = None
    ) -> None:
        """texts: configured `auth` values; an app may add its own. Raises ConfigError."""
        self.tokens = tokens or Tokens.random()
        self.peers = peers
        self.modes = [mode for text in texts for mode in modes_of(text, self.tokens, self.peers)]

    def allows(self, request: Request, needed: Right) -> bool:
        """Whether the request holds all these rights."""
        if Right.UPLOAD in needed:
            needed |= NEEDS_WITH_UPLOAD
        if not needed:
            return True
        return any(needed in mode.rights(request) for mode in self.modes)

    def is_password(self, request: Request) -> bool:
        """Whether the request's own name and password open everything."""
        return any(
            isinstance(mode, Passwords) and Right.ALL in mode.rights(request) for mode in self.modes
        )

    def token_for(self, request: Request) -> str:
        """The token to publish to this client: it opens what its credentials open, no more."""
        if any(isinstance(mode, Everybody) for mode in self.modes):
            return NO_TOKEN
        return self.tokens.full if self.allows(request, Right.ALL) else self.tokens.limited


def is_foreign(request: Request) -> bool:
    """Whether a page of another site made the browser send this request.

    Browsers say so in Sec-Fetch-Site; older ones at least send the Origin. Following a link from
    elsewhere to one of our pages is no such thing. Programs send neither header.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site in ("same-origin", "none"):
            return False
        return not (
            request.method in ("GET", "HEAD")
            and request.headers.get("sec-fetch-mode") == "navigate"
            and request.headers.get("sec-fetch-dest") == "document"
        )
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
