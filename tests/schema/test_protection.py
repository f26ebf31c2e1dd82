"""Keys under a passphrase: by GnuPG, and of every form that is read."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.errors import Invalid, Unsupported
from peatkeep.schema.keyring import MAX_TRIES, SecretKey, read_ring, unlock_by_asking
from peatkeep.schema.protection import WrongPassphrase, opened
from tests.schema.keys import VECTORS
from tests.schema.locking import Lock, locked_ring

PASSPHRASE = "sésame, ouvre-toi".encode()
RING = (VECTORS / "keys" / "TEST-ONLY-A.identity-secring.gpg").read_bytes()
DIGEST = bytes(32)


def the_key(ring: bytes) -> SecretKey:
    return read_ring(ring)[0]


SIGNATURE = the_key(RING).sign(DIGEST)


@pytest.fixture
def gnupg() -> Iterator[Path]:
    """An empty home of GnuPG. Its path is short: a socket will lie in it."""
    home = Path(tempfile.mkdtemp(prefix="pk-gpg-", dir="/tmp"))
    try:
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=False)
        shutil.rmtree(home)


def gpg(home: Path, *words: str, stdin: bytes = b"") -> bytes:
    command = ["gpg", "--homedir", str(home), "--batch", "--no-tty", "--pinentry-mode", "loopback"]
    command += ["--passphrase", os.fsdecode(PASSPHRASE), *words]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


def test_a_key_that_gnupg_protected_signs_after_its_passphrase(gnupg: Path) -> None:
    gpg(gnupg, "--quick-gen-key", "TEST-ONLY", "nistp256", "sign", "never")
    key = the_key(gpg(gnupg, "--export-secret-keys"))
    assert key.is_locked
    with pytest.raises(WrongPassphrase, match="wrong passphrase"):
        key.unlock(b"sesame")
    assert key.is_locked
    key.unlock(PASSPHRASE)
    assert not key.is_locked
    numbers = b"".join((8 * len(n)).to_bytes(2, "big") + n for n in key.sign(DIGEST))
    assert key.public.accepts(numbers, DIGEST, 8)


def test_gnupg_opens_what_the_tests_protect(gnupg: Path) -> None:
    gpg(gnupg, "--import", stdin=locked_ring(RING, PASSPHRASE))
    assert gpg(gnupg, "--sign", stdin=b"text")


@pytest.mark.parametrize("usage", [254, 255])
@pytest.mark.parametrize("cipher", [7, 8, 9])
@pytest.mark.parametrize(
    ("way", "hash_number"), [(0, 1), (0, 8), (1, 2), (1, 10), (3, 2), (3, 8), (3, 10)]
)
def test_every_form_is_opened(usage: int, cipher: int, way: int, hash_number: int) -> None:
    key = the_key(locked_ring(RING, PASSPHRASE, Lock(usage, cipher, way, hash_number)))
    with pytest.raises(WrongPassphrase):
        key.unlock(PASSPHRASE + b"!")
    key.unlock(PASSPHRASE)
    assert key.sign(DIGEST) == SIGNATURE


@pytest.mark.parametrize("passphrase", [b"", b"x", b"long " * 400])
def test_passphrases_of_any_length_fit(passphrase: bytes) -> None:
    for way in (0, 1, 3):
        key = the_key(locked_ring(RING, passphrase, Lock(way=way, count=0)))
        key.unlock(passphrase)
        assert key.sign(DIGEST) == SIGNATURE


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("07 0102", "in way 7"),
        ("fd 07 0102", "in way 253"),
        ("fe 03 0302 5445535454455354 60", "cipher 3, which is not AES"),
        ("fe 07 0303 5445535454455354 60", "hashed by 3"),
        ("fe 07 0402 5445535454455354", "becomes a key in way 4"),
        ("ff 00 6500 474e5501", "elsewhere"),
    ],
)
def test_other_protections_are_named(secret: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        opened(bytes.fromhex(secret), PASSPHRASE, "key")


@given(st.binary(max_size=80))
def test_any_bytes_are_opened_or_refused(noise: bytes) -> None:
    for secret in (noise, b"\xfe\x07\x01\x02" + noise, b"\xff\x09\x00\x08" + noise):
        try:
            opened(secret, b"x", "key")
        except (Invalid, Unsupported):
            continue


def test_a_passphrase_is_asked_for_until_it_fits() -> None:
    key = the_key(locked_ring(RING, PASSPHRASE))
    complaints = []

    def ask(asked: SecretKey, complaint: str) -> bytes:
        assert asked is key
        complaints.append(complaint)
        return PASSPHRASE if len(complaints) == MAX_TRIES else b"no"

    unlock_by_asking(key, ask)
    assert complaints == ["", "wrong passphrase", "wrong passphrase"]
    assert key.sign(DIGEST) == SIGNATURE


def test_after_three_wrong_passphrases_nobody_is_asked_again() -> None:
    key = the_key(locked_ring(RING, PASSPHRASE))
    asked = []
    with pytest.raises(WrongPassphrase, match="3 wrong passphrases") as raised:
        unlock_by_asking(key, lambda _, complaint: (asked.append(complaint), b"no")[1])
    assert len(asked) == MAX_TRIES
    assert key.is_locked
    assert "no" not in str(raised.value).split()
