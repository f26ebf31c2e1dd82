"""Sign schema blobs, and decide who signed what: here, and nowhere else."""

import json
from base64 import b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from ..blob import Fetcher, Ref, parse_ref
from ..errors import Invalid, TooLarge, Unsupported
from . import armor
from .keyring import SecretKey
from .openpgp import (
    BINARY_DOCUMENT,
    PUBLIC_KEY,
    Cursor,
    creation_time,
    first_packet,
    issuer,
    read_signature,
    signature_head,
    signed_digest,
    write_signature,
)
from .publickey import PublicKey, read_public_key
from .text import MAX_SCHEMA_SIZE, decode, encode
from .times import format_time

SEPARATOR: Final = b',"camliSig":"'
"""Stands between what is signed and the signature; the last one in a blob counts."""

ZERO_TIME_S: Final = 2288912640
"""The signature time of Perkeep's sign handler, which passes no time: a day in 2042."""

_PARSE: Final = "parse signature"

VERDICTS: Final = {
    "split": "jsonsign: no 13-byte camliSig separator found in sjson",
    _PARSE: "parsing signature map failed",
    "parse payload": "parsing payload map failed",
    "verify": "signature verification failed",
}
"""What Perkeep tells its users, by the operation of an error of `verify`."""

_MAX_KEY_BLOB_SIZE: Final = 256 * 1024
_WHITE_SPACE: Final = b" \t\n\v\f\r"


# -- signing ------------------------------------------------------------------------------------


class Signer:
    """Signs as one key.

    key_id: 16 upper-case hex digits. public_text: the key blob, which must be stored where the
    signed blobs are; ref: its name, the `camliSigner` of what is signed.
    """

    def __init__(self, key: SecretKey) -> None:
        self.key: Final = key
        self.key_id: Final = key.key_id
        self.public_text: Final = key.public_text
        self.ref: Final = key.public_ref

    def sign_members(self, members: Mapping[str, object], at_ns: int) -> bytes:
        """The signed blob of these members, with `camliSigner` and `claimDate` filled in.

        at_ns: the date of the claim, nanoseconds since the epoch; the signature has its whole
        seconds. A claim dated in the second 0 of 1970 is valid but counts nowhere.
        """
        complete = {**members, "camliSigner": self.ref, "claimDate": format_time(at_ns)}
        return self.sign(encode(complete), at_ns // 1_000_000_000)

    def sign(self, text: bytes, at_s: int) -> bytes:
        """Sign the JSON text of an object whose `camliSigner` names this key.

        at_s: seconds since the epoch, any number: a signature keeps the low 32 bits.
        The text stays as it is, up to white space and the brace at its end. RSA and, with a
        recent OpenSSL, ECDSA give the same blob for the same text and time.
        Raises Invalid, with the words of Perkeep's sign handler as reason, and Unsupported
        for a locked key.
        """
        signed_part = _signable(text, self)
        hashed = [creation_time(at_s), issuer(self.key_id)]
        head = signature_head(BINARY_DOCUMENT, self.key.public.algorithm, hashed)
        digest = signed_digest(signed_part, head)
        packet = write_signature(head, digest, self.key.sign(digest))
        armored = b64encode(packet) + armor.checksum(packet).encode()
        return signed_part + SEPARATOR + armored + b'"}\n'


def _signable(text: bytes, signer: Signer) -> bytes:
    """The text without its final brace, checked."""
    if len(text) > MAX_SCHEMA_SIZE:
        raise TooLarge("sign", f"{len(text)} bytes", "over the size of a schema blob")
    stripped = text.rstrip(_WHITE_SPACE)
    try:
        members = decode(stripped)
    except Invalid:
        raise Invalid("sign", "text", "json parse error") from None
    if members is None:
        members = {}  # Perkeep takes null for an object without members
    if not isinstance(members, dict):
        raise Invalid("sign", "text", "json parse error")
    if "camliSigner" not in members:
        reason = 'json lacks "camliSigner" key with public key blobref'
        raise Invalid("sign", "text", reason)
    ref = parse_ref(members["camliSigner"])
    if ref is None:
        raise Invalid("sign", "text", 'json "camliSigner" key is malformed or unsupported')
    if ref != signer.ref and not ref.matches(signer.public_text):
        raise Invalid("sign", "text", f"failed to find public key {ref}: file does not exist")
    return stripped[:-1]


# -- verifying ----------------------------------------------------------------------------------


class Verification(NamedTuple):
    """Who signed a blob.

    signer_ref: the key blob that it names. key_id: identifies the signer, whatever blob holds
    the key. payload: the members that are signed, under the names that stand in the text.
    """

    signer_ref: Ref
    key_id: str
    payload: Mapping[str, object]


def verify(data: bytes, blobs: Fetcher) -> Verification:
    """Decide who signed a blob.

    blobs: where the key blob is fetched from; it must hold it under the very ref that the
    blob names.
    Raises NotFound for an absent key; Invalid if the blob is not signed ("split"), is
    not well-formed ("parse payload", "parse signature") or the signature is not good ("verify"),
    which is the `operation` of the error. The rules are in pkg/schema/SIGNING.md, "Verifying".
    """
    end = _separator(data)
    signed_part = data[:end]
    payload = _members(signed_part)
    signer_ref = _signer(payload)
    try:
        # The key first: a blob that names an absent one waits for it, whatever its signature.
        key = public_key(blobs.fetch(signer_ref))
        _check(signed_part, _signature_text(b"{" + data[end + 1 :]), key)
    except (Invalid, Unsupported) as error:
        raise _not_good(signer_ref, error) from None
    return Verification(signer_ref, key.key_id, payload)


def check_signature(signer_ref: Ref, signed: bytes, text: bytes, blobs: Fetcher) -> PublicKey:
    """The key of the signer, if it made this signature; raises as `verify` otherwise.

    signed: the bytes that are. text: the signature as it stands in `camliSig`.
    """
    try:
        key = public_key(blobs.fetch(signer_ref))
        _check(signed, text, key)
    except (Invalid, Unsupported) as error:
        raise _not_good(signer_ref, error) from None
    return key


def _not_good(signer_ref: Ref, error: Invalid | Unsupported) -> Invalid:
    operation = error.operation if error.operation == _PARSE else "verify"
    reason = error.reason if error.operation in (_PARSE, "verify") else str(error)
    return Invalid(operation, f"signature by {signer_ref}", reason)


def public_key(key_blob: bytes) -> PublicKey:
    """The key in a key blob. Raises Invalid if there is none, Unsupported for other kinds."""
    return _parsed_key(key_blob[:_MAX_KEY_BLOB_SIZE])


@lru_cache(maxsize=64)
def _parsed_key(text: bytes) -> PublicKey:
    block = next(armor.blocks(text), None)
    if block is None or block.kind != armor.PUBLIC_KEY:
        raise Invalid("read", "key blob", "no armored public key")
    tag, body = first_packet(block.data)
    if tag != PUBLIC_KEY:
        raise Invalid("read", "key blob", "its first packet is not a public key")
    return read_public_key(Cursor(body, "public key"))


def _separator(data: bytes) -> int:
    """Where what is signed (without a closing brace) ends."""
    if len(data) > MAX_SCHEMA_SIZE:
        raise TooLarge("split", f"{len(data)} bytes", "over the size of a schema blob")
    end = data.rfind(SEPARATOR)
    if end < 0:
        raise Invalid("split", "signed text", "no 13-byte camliSig separator found")
    return end


def _members(signed_part: bytes) -> dict[str, object]:
    try:
        payload = _decode(signed_part + b"}")
    except Invalid as error:
        raise Invalid("parse payload", "signed text", error.reason) from None
    if not isinstance(payload, dict):
        raise Invalid("parse payload", "signed text", "not a JSON object")
    return payload


def _signer(payload: Mapping[str, object]) -> Ref:
    for name in ("camliVersion", "camliSigner"):
        if name not in payload:
            raise Invalid("parse payload", "signed text", f"no {name}")
    signer_ref = parse_ref(payload["camliSigner"])
    if signer_ref is None:
        raise Invalid("parse payload", "signed text", "camliSigner is not a blobref")
    return signer_ref


def _decode(data: bytes) -> object:
    """What `decode` gives, at three times its speed for the usual text. Raises Invalid.

    Repeated names are not told apart: the last one counts, which is all that matters here.
    """
    if b"\\ud" not in data and b"\\uD" not in data:  # no half of a surrogate pair
        try:
            return _PLAIN_DECODER.decode(data.decode())
        except (ValueError, RecursionError):
            pass  # decode knows whether that is an error, and which
    return decode(data)


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_PLAIN_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _signature_text(tail: bytes) -> bytes:
    """The value of the one member of the JSON text behind what is signed."""
    try:
        members = _decode(tail)
    except Invalid:
        raise Invalid(_PARSE, "signature", "what follows the payload is not JSON") from None
    text = members.get("camliSig") if isinstance(members, dict) and len(members) == 1 else None
    if not isinstance(text, str):
        reason = "what follows the payload is not one camliSig text"
        raise Invalid(_PARSE, "signature", reason)
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise Invalid("verify", "signature", "camliSig is not base64") from None


def _signature_packet(text: bytes) -> bytes:
    encoded, equals, check_sum = text.rpartition(b"=")
    if not equals:
        raise Invalid("verify", "signature", "camliSig has no checksum")
    if not check_sum:
        encoded = text  # the last `=` is padding: there is no checksum
    return armor.unbase64(encoded)


def _check(signed_part: bytes, text: bytes, key: PublicKey) -> None:
    """Raises Invalid unless this signature of this key covers these bytes."""
    signature = read_signature(_signature_packet(text))
    if signature.type != BINARY_DOCUMENT:
        raise Invalid("verify", "signature", f"type 0x{signature.type:02x}, not binary")
    if signature.key_algorithm != key.algorithm:
        raise Invalid("verify", "signature", "made by another algorithm than that of the key")
    digest = signed_digest(signed_part, signature.head, signature.hash_algorithm)
    if digest[:2] != signature.digest_start:
        raise Invalid("verify", "signature", "it is over other bytes")
    if not key.accepts(signature.numbers, digest, signature.hash_algorithm):
        raise Invalid("verify", "signature", "it was not made with the key that is named")
