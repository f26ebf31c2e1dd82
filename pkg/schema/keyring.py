"""Key rings: the file with a person's secret keys (pkg/schema/SIGNING.md, "Key rings")."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from ..blob import Ref
from ..errors import Invalid, NotFound, TooLarge, Unsupported
from . import armor
from .algorithms import RsaMaterial, Sign
from .openpgp import (
    CERTIFICATION,
    PUBLIC_KEY,
    RSA,
    SECRET_KEY,
    SECRET_SUBKEY,
    SUBKEY_BINDING,
    USER_ID,
    Cursor,
    creation_time,
    issuer,
    packets,
    signature_head,
    signed_digest,
    write_number,
    write_packet,
    write_signature,
)
from .protection import OPEN, WrongPassphrase, opened
from .publickey import PublicKey, key_frame, read_public_key

MAX_RING_SIZE: Final = 1024 * 1024
"""Bytes of the largest ring that is read; one key takes 3 KB."""

_IDENTITY = re.compile(r"[0-9A-Fa-f]{8}|[0-9A-Fa-f]{16}|[0-9A-Fa-f]{40}")
MAX_TRIES: Final = 3
"""How often a passphrase is asked for."""


class SecretKey:
    """A key that can sign. Its `repr` tells nothing secret.

    key_id: 16 upper-case hex digits; fingerprint: 40. public_text: the armored public key,
    just the bare key packet; public_ref: the name of the blob with this text, which is the
    identity that claims name. user_ids: as they stand in the ring.
    """

    __slots__ = ("_secret", "_sign", "public", "public_ref", "public_text", "user_ids")

    def __init__(self, public: PublicKey, secret: Cursor, user_ids: Sequence[bytes] = ()) -> None:
        text = armor.encode(armor.PUBLIC_KEY, write_packet(PUBLIC_KEY, public.body))
        self.public: Final = public
        self.public_text: Final = text.encode() + b"\n"
        self.public_ref: Final = Ref.of(self.public_text)
        self.user_ids = list(user_ids)
        self._secret = secret.rest()
        self._sign: Sign | None = None

    def __repr__(self) -> str:
        return f"<SecretKey {self.key_id}>"

    @property
    def key_id(self) -> str:
        return self.public.key_id

    @property
    def fingerprint(self) -> str:
        return self.public.fingerprint

    @property
    def is_locked(self) -> bool:
        """Whether a passphrase protects it, so that it can't sign before `unlock`."""
        return self._secret[0] != OPEN

    def unlock(self, passphrase: bytes) -> None:
        """Make it able to sign, from now on. Does nothing if it is not locked.

        Raises WrongPassphrase; Unsupported for a protection that is not lifted here.
        """
        if self.is_locked:
            self._secret = opened(self._secret, passphrase, f"key {self.key_id}")

    def sign(self, digest: bytes) -> tuple[bytes, ...]:
        """Sign a SHA-256 digest: the numbers for `write_signature`.

        Raises Unsupported if the key is locked, Invalid if its secret half does not fit.
        """
        try:
            if self._sign is None:
                self._sign = self._unpack()
            return self._sign(digest)
        except (ValueError, ZeroDivisionError) as error:
            raise Invalid("sign with", f"key {self.key_id}", str(error)) from None

    def _unpack(self) -> Sign:
        if self.is_locked:
            raise Unsupported("sign with", f"key {self.key_id}", "a passphrase protects it")
        numbers, check_sum = self._secret[1:-2], self._secret[-2:]
        if sum(numbers) % 65536 != int.from_bytes(check_sum, "big"):
            raise Invalid("read", f"secret key {self.key_id}", "its checksum does not fit")
        return self.public.material.signer(Cursor(numbers, f"secret key {self.key_id}"))


Ask = Callable[[SecretKey, str], bytes]
"""(key, what was wrong with the passphrase before, or "") -> its passphrase. Raises StoreError
where nobody answers."""


def unlock_by_asking(key: SecretKey, ask: Ask) -> None:
    """Unlock a key with the passphrase that `ask` gets, at most MAX_TRIES times.

    Raises WrongPassphrase when none of them fits; what `ask` raises; Unsupported.
    """
    complaint = ""
    for _ in range(MAX_TRIES):
        try:
            key.unlock(ask(key, complaint))
            return
        except WrongPassphrase as error:
            complaint = error.reason
    raise WrongPassphrase("unlock", f"key {key.key_id}", f"{MAX_TRIES} wrong passphrases")


# -- reading ------------------------------------------------------------------------------------


def read_ring(data: bytes) -> list[SecretKey]:
    """The keys of a ring, in its order; armored or binary, by this program, Perkeep or GnuPG.

    Keys of kinds that can't sign claims (Ed25519 and others) are passed over. Raises Invalid
    for a broken ring or one without any secret key, Unsupported if all are of other kinds.
    """
    if len(data) > MAX_RING_SIZE:
        raise TooLarge("read", "key ring", f"{len(data)} bytes")
    keys: list[SecretKey] = []
    current: SecretKey | None = None
    refused: Unsupported | None = None
    for tag, body in packets(_unarmored(data)):
        if tag == SECRET_KEY:
            try:
                current = _secret_key(body)
                keys.append(current)
            except Unsupported as error:
                current, refused = None, error
        elif tag == USER_ID and current is not None:
            current.user_ids.append(body)
    if not keys:
        raise refused or Invalid("read", "key ring", "it holds no secret key")
    return keys


def _unarmored(data: bytes) -> bytes:
    if data[:1] >= b"\x80":
        return data
    parts = [block for block in armor.blocks(data) if block.kind == armor.PRIVATE_KEY]
    if not parts:
        raise Invalid("read", "key ring", "neither binary nor an armored private key")
    if not all(part.is_intact for part in parts):
        raise Invalid("read", "key ring", "its checksum does not fit")
    return b"".join(part.data for part in parts)


def _secret_key(body: bytes) -> SecretKey:
    cursor = Cursor(body, "secret key packet")
    public = read_public_key(cursor)
    key = SecretKey(public, cursor)
    if len(cursor.rest()) < 3:
        raise Invalid("read", f"secret key {public.key_id}", "cut short")
    return key


def normal_identity(text: str) -> str:
    """An identity as users type it, for find_key: without `0x` and blanks."""
    return "".join(text.split()).removeprefix("0x").removeprefix("0X")


def find_key(keys: Sequence[SecretKey], identity: str) -> SecretKey:
    """The key with this fingerprint, or long or short key id, in any case.

    Raises Invalid for a text that is none of these (see normal_identity) or a short id that
    fits several keys, NotFound if no key fits.
    """
    if _IDENTITY.fullmatch(identity) is None:
        reason = "not a fingerprint (40 hex digits) or key id (16 or 8)"
        raise Invalid("find key", repr(identity[:60]), reason)
    found = {key.fingerprint: key for key in keys if key.fingerprint.endswith(identity.upper())}
    if not found:
        have = ", ".join(key.key_id for key in keys) or "none"
        raise NotFound("find key", identity, f"the ring holds {have}")
    if len(found) > 1:
        raise Invalid("find key", identity, f"it fits {len(found)} keys")
    return next(iter(found.values()))


# -- making -------------------------------------------------------------------------------------

_USER_ID: Final = b"(camlistore)"
_KEY_BITS: Final = 2048  # the one size with which Perkeep's programs sign too
_EXPONENT: Final = 65537
_MAY_CERTIFY_AND_SIGN, _MAY_ENCRYPT = b"\x1b\x03", b"\x1b\x0c"
_PRIMARY_USER_ID: Final = b"\x19\x01"


def create_key(created_s: int | None = None) -> bytes:
    """The text of a new ring with one new RSA key, in the format of Perkeep's `init`.

    created_s: the date in the key, seconds since the epoch; by default now.
    The text is secret: write it to a file of mode 0600. No line feed ends it.
    """
    created = int(time.time() if created_s is None else created_s) % 2**32
    primary, sub = _new_key_body(created), _new_key_body(created)
    key = _secret_key(primary)
    key_frames = [key_frame(read_public_key(Cursor(body, "key")).body) for body in (primary, sub)]
    user_id_frame = b"\xb4" + len(_USER_ID).to_bytes(4, "big") + _USER_ID
    own = [_MAY_CERTIFY_AND_SIGN, _PRIMARY_USER_ID]
    ring = [
        write_packet(SECRET_KEY, primary),
        write_packet(USER_ID, _USER_ID),
        _bind(key, CERTIFICATION, created, own, key_frames[0] + user_id_frame),
        write_packet(SECRET_SUBKEY, sub),
        _bind(key, SUBKEY_BINDING, created, [_MAY_ENCRYPT], b"".join(key_frames)),
    ]
    return armor.encode(armor.PRIVATE_KEY, b"".join(ring)).encode()


def _new_key_body(created: int) -> bytes:
    """The body of a secret key packet with a fresh key, unprotected."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    numbers = rsa.generate_private_key(_EXPONENT, _KEY_BITS).private_numbers()
    p, q = sorted((numbers.p, numbers.q))
    public = RsaMaterial(numbers.public_numbers.n, numbers.public_numbers.e)
    secret = b"".join(write_number(n) for n in (numbers.d, p, q, pow(p, -1, q)))
    return (
        b"\x04"
        + created.to_bytes(4, "big")
        + bytes([RSA])
        + write_number(public.n)
        + write_number(public.e)
        + bytes([OPEN])
        + secret
        + (sum(secret) % 65536).to_bytes(2, "big")
    )


def _bind(key: SecretKey, kind: int, at_s: int, subpackets: list[bytes], data: bytes) -> bytes:
    hashed = [creation_time(at_s), issuer(key.key_id), *subpackets]
    head = signature_head(kind, RSA, hashed)
    digest = signed_digest(data, head)
    return write_signature(head, digest, key.sign(digest))
