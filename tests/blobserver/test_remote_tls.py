"""TLS: certificates are verified, or compared with trusted fingerprints."""

import datetime
import hashlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from peatkeep.blobserver.remote import Transport, discover
from peatkeep.errors import Forbidden, Unavailable

from .small_server import SmallServer, small_server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A self-signed certificate with its key, in one file, and its fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + private)
    der = signed.public_bytes(serialization.Encoding.DER)
    return path, hashlib.sha256(der).hexdigest()[:20]


@pytest.fixture
def server(certificate: tuple[Path, str]) -> Iterator[SmallServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[0])
    with small_server() as running:
        running.socket = context.wrap_socket(running.socket, server_side=True)
        yield running


def url_of(server: SmallServer) -> str:
    return server.url.replace("http:", "https:")


def test_an_unknown_certificate_is_refused(server: SmallServer) -> None:
    with pytest.raises(Unavailable, match="certificate"):
        discover(Transport(url_of(server)))


def test_a_trusted_fingerprint_is_enough(
    server: SmallServer, certificate: tuple[Path, str]
) -> None:
    transport = Transport(url_of(server), trusted_certs=[certificate[1].upper()])
    assert discover(transport).blob_root == "/bs/"


def test_another_certificate_than_the_trusted_one_is_refused_before_anything_is_sent(
    server: SmallServer,
) -> None:
    with pytest.raises(Forbidden, match="not trusted"):
        discover(Transport(url_of(server), "userpass:u:p", trusted_certs=["0" * 20]))
    assert server.requests == []


def test_insecure_takes_any_certificate(server: SmallServer) -> None:
    assert discover(Transport(url_of(server), insecure=True)).blob_root == "/bs/"
