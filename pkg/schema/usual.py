"""Signed blobs in the form in which all writers write them, read in one go.

Nearly all claims and permanodes have it, and to read them as any JSON text takes ten times as
long. What looks different in the least is left to `parse` and `verify`, which know every form.
"""

import re
from typing import Final, NamedTuple

from ..blob import Fetcher, Ref
from ..errors import Invalid
from .signing import check_signature
from .text import MAX_SCHEMA_SIZE
from .times import parse_time

_TEXT: Final = rb'([^"\\\x00-\x1f]*)'
"""A JSON text without escapes; what it holds as bytes is what it says."""

_REF: Final = rb"(sha224-[0-9a-f]{56})"
_DATE: Final = rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?Z)"
"""The one text that an instant has where we write it."""

_END: Final = rb'\n),"camliSig":"([A-Za-z0-9+/=]*)"\}\n?'
"""The end of what is signed, and the signature."""

_CLAIM: Final = re.compile(
    rb'(\{"camliVersion": 1,\n  "attribute": "'
    + _TEXT
    + rb'",\n  "camliSigner": "'
    + _REF
    + rb'",\n'
    rb'  "camliType": "claim",\n  "claimDate": "' + _DATE + rb'",\n'
    rb'  "claimType": "((?:set|add|del)-attribute)",\n  "permaNode": "' + _REF + rb'"'
    rb'(?:,\n  "value": "' + _TEXT + rb'")?' + _END
)
_PERMANODE: Final = re.compile(
    rb'(\{"camliVersion": 1,\n  "camliSigner": "' + _REF + rb'",\n  "camliType": "permanode",\n'
    rb'  "claimDate": "' + _DATE + rb'",\n  "(?:key|random)": "' + _TEXT + rb'"' + _END
)
_BEGINNING_OF_CLAIM: Final = b'{"camliVersion": 1,\n  "attribute'
_BEGINNING_OF_PERMANODE: Final = b'{"camliVersion": 1,\n  "camliSigner'


class UsualPermanode(NamedTuple):
    """signed: the bytes that are; signature: of them, in base64."""

    signer_ref: Ref
    signed: bytes
    signature: bytes


class UsualClaim(NamedTuple):
    """A claim that sets, adds or deletes an attribute. date: the text of `date_ns`."""

    signer_ref: Ref
    signed: bytes
    signature: bytes
    date_ns: int
    date: str
    type: str
    permanode: Ref
    attribute: str
    value: str


def read_usual(data: bytes) -> UsualClaim | UsualPermanode | None:
    """The claim or permanode; None for everything that is not beyond doubt one of this form."""
    if len(data) > MAX_SCHEMA_SIZE:
        return None
    try:
        if data.startswith(_BEGINNING_OF_CLAIM):
            return _claim(data)
        if data.startswith(_BEGINNING_OF_PERMANODE):
            return _permanode(data)
    except (UnicodeDecodeError, Invalid):
        pass  # a text that is not UTF-8, or a date that there is not: parse knows what that means
    return None


def _claim(data: bytes) -> UsualClaim | None:
    found = _CLAIM.fullmatch(data)
    if found is None:
        return None
    signed, attribute, signer, date, kind, permanode, value, signature = found.groups(b"")
    text = date.decode()
    return UsualClaim(
        Ref.trusted(signer.decode()),
        signed,
        signature,
        parse_time(text),
        text,
        kind.decode(),
        Ref.trusted(permanode.decode()),
        attribute.decode(),
        value.decode(),
    )


def _permanode(data: bytes) -> UsualPermanode | None:
    found = _PERMANODE.fullmatch(data)
    if found is None:
        return None
    signed, signer, date, key, signature = found.groups()
    key.decode()
    parse_time(date.decode())
    return UsualPermanode(Ref.trusted(signer.decode()), signed, signature)


def key_id_of(blob: UsualClaim | UsualPermanode, blobs: Fetcher) -> str:
    """Who signed it. Decided, and raises, as by `signing.verify`."""
    return check_signature(blob.signer_ref, blob.signed, blob.signature, blobs).key_id
