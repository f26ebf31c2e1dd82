import asyncio
import base64

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from peatkeep.errors import ConfigError
from peatkeep.server.app import App
from peatkeep.server.auth import NO_TOKEN, Auth, Right, Tokens
from peatkeep.server.peers import LocalPeers
from peatkeep.server.routes import Mount, Route

from .running import RunningServer, running_server

TOKENS = Tokens("f" * 40, "e" * 40)


def request(
    authorization: str = "", query: str = "", method: str = "GET", **headers: str
) -> Request:
    sent = dict(headers)
    if authorization:
        sent["authorization"] = authorization
    return Request(
        {
            "type": "http",
            "method": method,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
    )


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def auth(*texts: str) -> Auth:
    return Auth(texts, LocalPeers({}), TOKENS)


def granted(mode: Auth, sent: Request) -> Right:
    return (
        Right.ALL
        if mode.allows(sent, Right.ALL)
        else (Right.VIVIFY if mode.allows(sent, Right.VIVIFY) else Right.NONE)
    )


@pytest.mark.parametrize(
    ("mode", "header", "right"),
    [
        ("none", "", Right.ALL),
        ("none", "Basic eDp5", Right.ALL),
        ("userpass:alice:secret", basic("alice:secret"), Right.ALL),
        ("userpass:alice:secret", basic("alice:secret") + " junk", Right.ALL),
        ("userpass:alice:secret", basic("alice:wrong"), Right.NONE),
        ("userpass:alice:secret", basic("bob:secret"), Right.NONE),
        ("userpass:alice:secret", basic("alice"), Right.NONE),
        ("userpass:alice:secret", basic("alice:"), Right.NONE),
        ("userpass:alice:secret", "Basic !!!", Right.NONE),
        ("userpass:alice:secret", "basic " + basic("alice:secret")[6:], Right.NONE),
        ("userpass:alice:secret", "Bearer abc", Right.NONE),
        ("userpass:alice:secret", "", Right.NONE),
        ("userpass:alice:secret:vivify=vv", basic("alice:vv"), Right.VIVIFY),
        ("userpass:alice:secret:vivify=vv", basic("bob:vv"), Right.NONE),
        ("userpass:alice:secret:vivify=", basic("alice:"), Right.NONE),
        ("userpass:älice:sécret", basic("älice:sécret"), Right.ALL),
        ("basic:alice:secret", basic("alice:secret"), Right.ALL),
        ("devauth:pony", basic("anybody:pony"), Right.ALL),
        ("devauth:pony", basic("anybody:vivipony"), Right.VIVIFY),
        ("devauth:pony", basic(":x"), Right.NONE),
        ("token:sesame", "Token sesame", Right.NONE),
        ("token:sesame", f"Token {TOKENS.full}", Right.ALL),
        ("userpass:alice:secret", f"Token {TOKENS.full}", Right.ALL),
        ("userpass:alice:secret", f"Token {TOKENS.full}, junk", Right.ALL),
        ("userpass:alice:secret", f"token {TOKENS.full}", Right.NONE),
        ("userpass:alice:secret", f"Token {TOKENS.full}0", Right.NONE),
        ("userpass:alice:secret", f"Token {TOKENS.limited}", Right.VIVIFY),
        ("localhost", f"Token {TOKENS.full}", Right.NONE),
    ],
)
def test_credentials_hold_the_rights_of_their_mode(mode: str, header: str, right: Right) -> None:
    assert granted(auth(mode), request(header)) == right


def test_a_token_in_the_url_counts_only_when_a_websocket_is_asked_for() -> None:
    mode = auth("userpass:alice:secret")
    query = f"authtoken={TOKENS.full}"
    assert mode.allows(request(query=query, upgrade="websocket"), Right.ALL)
    assert not mode.allows(request(query=query), Right.GET)
    assert not mode.allows(request(query=query, upgrade="WebSocket"), Right.GET)
    assert not mode.allows(request(query=query, upgrade="websocket", method="POST"), Right.GET)


def test_several_modes_are_each_enough() -> None:
    both = auth("userpass:alice:secret", "userpass:app:word")
    assert both.allows(request(basic("app:word")), Right.ALL)
    assert both.allows(request(basic("alice:secret")), Right.ALL)


def test_the_right_to_upload_needs_the_rights_that_go_with_it() -> None:
    class Writer:
        def rights(self, _: Request) -> Right:
            return Right.UPLOAD

    mode = auth("userpass:alice:secret")
    mode.modes = [Writer()]
    assert not mode.allows(request(), Right.UPLOAD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "userpass",
        "userpass:alice",
        "userpass:a:b:c",
        "basic:a:b:+localhost",
        "token:",
        "devauth:",
        "tailscale:full-access-to-tailnet",
        "magic",
        "none:x",
    ],
)
def test_a_mode_that_is_not_known_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        auth(text)
    assert ":b" not in caught.value.reason


def test_tailscale_is_refused_in_clear_words() -> None:
    with pytest.raises(ConfigError, match="tailscale is not supported"):
        auth("tailscale:user@example.com")


def test_without_authentication_no_token_is_published() -> None:
    assert auth("none").token_for(request()) == NO_TOKEN


def test_every_process_has_its_own_tokens() -> None:
    assert Tokens.random() != Tokens.random()
    assert len(Tokens.random().full) == 40


# -- over HTTP ------------------------------------------------------------------------------------


def discovery(server: RunningServer, **options: str) -> str:
    reply = server.ask("GET", "/", Accept="text/x-camli-configuration", **options)
    assert reply.status == 200
    return str(reply.json["authToken"])


def test_the_token_for_the_restricted_password_opens_no_more_than_that(
    server: RunningServer,
) -> None:
    token = discovery(server, auth="alice:vivpass")
    assert token != discovery(server)
    sent = {"auth": "", "Authorization": f"Token {token}"}
    assert server.ask("POST", "/bs/camli/remove", b"", **sent).status == 401
    assert server.ask("GET", "/ui/", **sent).status == 401
    assert server.ask("GET", "/bs/camli/enumerate-blobs", **sent).status == 401
    assert discovery(server, **sent) == token


def test_the_restricted_password_lists_nothing(server: RunningServer) -> None:
    path = "/bs/camli/enumerate-blobs"
    assert server.ask("GET", path, auth="alice:vivpass").status == 401
    assert server.ask("GET", path).status == 200


def test_the_realm_does_not_tell_the_password(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_server(tmp_path_factory.mktemp("devauth"), auth="devauth:pony") as server:
        reply = server.ask("GET", "/bs/camli/x", auth="", Host="example.com:80")
        assert reply.status == 401
        assert "pony" not in str(reply.headers)


def test_a_stealthy_server_says_nothing_to_strangers() -> None:

    async def never(_: Request) -> Response:
        raise AssertionError

    route = Route(("GET",), "*", Right.DISCOVERY, never)
    app = App([Mount("/", "root", [route], stealth=True)], auth("userpass:a:b"))
    assert ask(app, "/") == (200, b"")


def ask(app: App, path: str) -> tuple[int, bytes]:
    """GET a path of an application that has no server around it."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]
