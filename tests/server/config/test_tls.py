"""Self-signed certificates: where they lie, and that TLS works with them."""

import datetime
import hashlib
import socket
import ssl
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from peatkeep.errors import ConfigError
from peatkeep.server.config import support, tls
from peatkeep.server.config.record import LowConfig
from tests.waiting import GUARD_S

PLAIN = LowConfig(auth="localhost", listen="127.0.0.1:3179", prefixes={})


def config_at(path: Path | None, **changes: object) -> LowConfig:
    return replace(PLAIN, https=True, path=path, **changes)  # type: ignore[arg-type]


def environ_of(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "conf")}


def test_a_pair_is_made_once_beside_server_toml(tmp_path: Path) -> None:
    config = config_at(tmp_path / "data/server.toml")
    found = tls.with_certificate(config, environ_of(tmp_path))
    assert found.https_cert == str(tmp_path / "data/tls.crt")
    assert stat.S_IMODE((tmp_path / "data/tls.key").stat().st_mode) == 0o600
    first = tls.fingerprint(found.https_cert)
    again = tls.with_certificate(config, environ_of(tmp_path))
    assert again == found
    assert tls.fingerprint(again.https_cert) == first


def test_a_configuration_of_perkeep_gets_its_pair_in_our_place(tmp_path: Path) -> None:
    perkeep = tmp_path / "conf/perkeep"
    perkeep.mkdir(parents=True)
    config = config_at(perkeep / "server-config.json")
    found = tls.with_certificate(config, environ_of(tmp_path))
    assert found.https_cert == str(tmp_path / "conf/peatkeep/tls.crt")
    assert list(perkeep.iterdir()) == []


def test_the_pair_of_perkeep_is_used(tmp_path: Path) -> None:
    perkeep = tmp_path / "conf/perkeep"
    perkeep.mkdir(parents=True)
    for name in ("tls.crt", "tls.key"):
        (perkeep / name).write_text("")
    found = tls.with_certificate(config_at(None), environ_of(tmp_path))
    assert found.https_key == str(perkeep / "tls.key")


def test_configured_files_and_plain_http_need_nothing(tmp_path: Path) -> None:
    assert tls.with_certificate(PLAIN, environ_of(tmp_path)) is PLAIN
    config = config_at(None, https_cert="/c", https_key="/k")
    assert tls.with_certificate(config, environ_of(tmp_path)) is config


def test_a_client_sees_the_certificate_whose_fingerprint_was_told(tmp_path: Path) -> None:
    found = tls.with_certificate(config_at(tmp_path / "server.toml"), environ_of(tmp_path))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(found.https_cert, found.https_key)
    client = ssl.create_default_context(cafile=found.https_cert)
    client.verify_flags &= ~ssl.VERIFY_X509_STRICT
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with server.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        with (
            socket.create_connection(listener.getsockname(), timeout=GUARD_S) as plain,
            client.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            seen = wrapped.getpeercert(binary_form=True)
            wrapped.send(b"x")
        thread.join(GUARD_S)
    assert seen is not None
    assert hashlib.sha256(seen).hexdigest().startswith(tls.fingerprint(found.https_cert))


def test_the_fingerprint_of_no_certificate_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        tls.fingerprint(str(tmp_path / "none"))
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(ConfigError, match="certificate"):
        tls.fingerprint(str(tmp_path / "junk"))


def test_an_expired_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class LongAgo(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "LongAgo":
            return cls(2001, 1, 1, tzinfo=tz)

    with monkeypatch.context() as patch:
        patch.setattr(datetime, "datetime", LongAgo)
        certificate, _ = tls.make([])
    (tmp_path / "tls.crt").write_bytes(certificate)
    with pytest.raises(ConfigError, match="it expired on 2010-12-30"):
        tls.fingerprint(str(tmp_path / "tls.crt"))


@pytest.mark.parametrize(
    ("listen", "base_url", "name"),
    [
        ("0.0.0.0:443", "https://keep.example.com", "keep.example.com"),
        ("keep.example.com:443", "", "keep.example.com"),
        ("0.0.0.0:443", "", ""),
        (":443", "https://nas", ""),
        ("[::1]:443", "https://192.0.2.1:444", ""),
    ],
)
def test_a_full_name_would_need_a_certificate_from_others(
    listen: str, base_url: str, name: str
) -> None:
    config = config_at(None, listen=listen, base_url=base_url)
    assert tls.public_name(config) == name
    problems = support.check_supported(config)
    assert ["Let's Encrypt" in problem for problem in problems] == ([True] if name else [])


def test_a_certificate_names_the_listening_host() -> None:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(tls.make(["192.0.2.1", "nas", "", "0.0.0.0"])[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "nas"} <= set(names.get_values_for_type(x509.DNSName))
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "192.0.2.1"}
