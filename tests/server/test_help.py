import pytest

from .running import RunningServer, running_server


def test_the_client_configuration_holds_no_secret_that_the_client_did_not_send(
    server: RunningServer,
) -> None:
    reply = server.ask("GET", "/help/?clientConfig=true")
    assert reply.json["servers"]["default"]["auth"] == "userpass:alice:secret"
    assert b"vivpass" not in reply.body
    token = server.service.world.auth.tokens.full
    reply = server.ask("GET", "/help/?clientConfig=true", auth="", Authorization=f"Token {token}")
    assert reply.status == 200
    assert b"secret" not in reply.body.replace(b"identitySecretRing", b"").replace(b"secring", b"")


def test_without_authentication_the_configuration_says_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_server(tmp_path_factory.mktemp("none"), auth="none") as server:
        reply = server.ask("GET", "/help/?clientConfig=1", auth="")
        assert reply.json["servers"]["default"] == {
            "server": server.url,
            "auth": "none",
            "default": True,
        }


def test_the_public_url_is_the_one_that_was_configured(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("base")
    with running_server(folder, baseURL="https://pk.example.com") as server:
        reply = server.ask("GET", "/help/?clientConfig=1", Host="evil.example")
        assert reply.json["servers"]["default"]["server"] == "https://pk.example.com"
