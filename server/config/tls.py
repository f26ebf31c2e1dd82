"""The server's certificate: the configured one, or a self-signed one that is made once.

Clients recognise a self-signed certificate by its fingerprint (`trustedCerts` of their
configuration; server/config/README.md, "Certificates").
"""

import datetime
import hashlib
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ... import places
from ...errors import ConfigError
from . import private
from .record import LowConfig

if TYPE_CHECKING:
    from cryptography import x509

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
FINGERPRINT_DIGITS: Final = 20

_VALID_DAYS: Final = 3650


def public_name(config: LowConfig) -> str:
    """Return the host by which the outside knows this server; "" if it has no full name.

    A full name has a dot and is no IP address: only such a one gets a certificate from others.
    """
    if config.base_url:
        host = urlsplit(config.base_url).hostname or ""
    else:
        host = config.listen.rpartition(":")[0].removeprefix("[").removesuffix("]")
    return host if "." in host and _address(host) is None else ""


def with_certificate(config: LowConfig, environ: Mapping[str, str]) -> LowConfig:
    """Return the configuration with the files of its certificate, made if there is none.

    They lie beside the configuration file, or in the configuration directory where an existing
    pair, also Perkeep's, is used. Without https nothing changes. Raises ConfigError.
    """
    if not config.https or config.https_cert:
        return config
    folders = [config.path.parent] if config.path else []
    folders += places.config_dirs(environ)
    for folder in folders:
        if (folder / CERTIFICATE).exists() and (folder / KEY).exists():
            return _with_files(config, folder)
    own = places.own_config_dir(environ)
    is_ours = config.path is not None and config.path.name == places.SERVER_CONFIG
    folder = folders[0] if is_ours else own
    host = config.listen.rpartition(":")[0].removeprefix("[").removesuffix("]")
    certificate, key = make([host, urlsplit(config.base_url).hostname or ""])
    private.make_folder(folder)
    # The key first: a certificate is never there without it.
    private.replace(folder / KEY, key)
    private.replace(folder / CERTIFICATE, certificate)
    return _with_files(config, folder)


def _with_files(config: LowConfig, folder: Path) -> LowConfig:
    return replace(config, https_cert=str(folder / CERTIFICATE), https_key=str(folder / KEY))


def fingerprint(path: str) -> str:
    """Return what `trustedCerts` holds for this certificate (PEM): 20 hexadecimal digits.

    Raises ConfigError if the file holds none, or one that has expired.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError("read", f"certificate {path}", error.strerror or str(error)) from None
    except ValueError as error:
        raise ConfigError("read", f"certificate {path}", str(error)) from None
    if certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        reason = f"it expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        raise ConfigError("use", f"certificate {path}", reason)
    der = certificate.public_bytes(Encoding.DER)
    return hashlib.sha256(der).hexdigest()[:FINGERPRINT_DIGITS]


def make(hosts: list[str]) -> tuple[bytes, bytes]:
    """Return a self-signed certificate for these hosts and this machine, and its key, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "peatkeep")])
    today = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A day back: clocks of clients differ.
        .not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=_VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(Encoding.PEM), key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )


def _names(hosts: list[str]) -> "list[x509.GeneralName]":
    from cryptography import x509

    names: dict[str, x509.GeneralName] = {}
    for host in ["localhost", "127.0.0.1", "::1", socket.gethostname(), *hosts]:
        address = _address(host)
        if address is not None:
            if not address.is_unspecified:
                names[host] = x509.IPAddress(address)
        elif host and host.isascii():
            names[host] = x509.DNSName(host)
    return list(names.values())


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
