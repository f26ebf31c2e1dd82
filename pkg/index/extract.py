"""What one blob says to the index: pure, so it may run in any thread or process.

Only the target of a delete claim is left to the writer, who knows what is indexed.
"""

from collections.abc import Iterable, Iterator
from datetime import tzinfo
from typing import Final, NamedTuple

from ..blob import Ref, parse_ref
from ..errors import Corrupt, Invalid, NotFound, StoreError
from ..schema.claims import DEL_ATTRIBUTE, DELETE, Claim, read_claim
from ..schema.directory import directory_members
from ..schema.parse import Schema, parse_decoded
from ..schema.signing import Verification, verify
from ..schema.times import format_time
from .files import file_rows, named_ns
from .mime import BLOB_HEAD_SIZE, sniff
from .rows import (
    CLAIM,
    LOOKUP_ATTRIBUTES,
    PATH_ATTRIBUTE,
    SCHEMA_MIME,
    FileInfo,
    Row,
    claim_row,
    dated_row,
    deleted_row,
    edge_row,
    file_info_row,
    path_rows,
    recent_row,
    utf8,
    value_row,
)
from .sources import FileSource

MAX_CHILDREN: Final = 1_000_000
"""Members of a directory that are indexed; one with more has no rows."""


class Outcome(NamedTuple):
    """What is to be written for a blob, or why nothing is (yet).

    mime: as the `meta` row has it. rows: beside `have` and `meta`.
    deletion: the claim, of a delete claim; it has a target.
    needs: the first blob that is absent or damaged and without which it can't be indexed.
    refused: why it never will be; "" if it is not.
    """

    ref: Ref
    size: int
    mime: str = ""
    rows: tuple[Row, ...] = ()
    deletion: Claim | None = None
    needs: Ref | None = None
    refused: str = ""


def subjects(outcome: Outcome) -> Iterator[Ref]:
    """Yield the blobs about which something is known by this one; nothing for mere data."""
    if outcome.needs is not None or outcome.refused or not outcome.mime.startswith(SCHEMA_MIME):
        return
    yield outcome.ref
    if outcome.deletion is not None and outcome.deletion.target is not None:
        yield outcome.deletion.target
    yield from subjects_of_rows(outcome.rows)


def subjects_of_rows(rows: Iterable[Row]) -> Iterator[Ref]:
    """Yield what the claims among them are about."""
    for key, _ in rows:
        if key.startswith(CLAIM):
            yield Ref.trusted(key.split(b"|", 2)[1].decode())


def extract(ref: Ref, data: bytes, blobs: FileSource, zone: tzinfo) -> Outcome:
    """Read a blob, and what it depends on from `blobs`.

    zone: of dates in pictures without a place. Raises Unavailable and its like, never for
    what the blob holds.
    """
    schema, decoded = parse_decoded(data)
    if schema is None:
        return Outcome(ref, len(data), sniff(data[:BLOB_HEAD_SIZE]))
    tracker = _Tracker(blobs)
    try:
        rows, deletion = _rows(ref, _Read(data, schema, decoded), tracker, zone)
    except (NotFound, Corrupt, Invalid) as error:
        if tracker.lacking is not None:
            return Outcome(ref, len(data), needs=tracker.lacking)
        return Outcome(ref, len(data), refused=_reason(error))
    return Outcome(ref, len(data), SCHEMA_MIME + _clean(schema.type), tuple(rows), deletion)


class _Tracker:
    """Remembers the first blob that could not be had."""

    __slots__ = ("_blobs", "begun", "lacking")

    def __init__(self, blobs: FileSource) -> None:
        self._blobs = blobs
        self.begun = blobs.begun
        self.lacking: Ref | None = None

    def fetch(self, ref: Ref) -> bytes:
        try:
            return self._blobs.fetch(ref)
        except (NotFound, Corrupt):
            self._lack(ref)
            raise

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        try:
            return self._blobs.read_range(ref, offset, length)
        except (NotFound, Corrupt):
            self._lack(ref)
            raise

    def _lack(self, ref: Ref) -> None:
        # A damaged copy waits for a good one, which arrives by uploading the blob again.
        if self.lacking is None:
            self.lacking = ref


_REASONS: Final = {
    "split": "jsonsign: no 13-byte camliSig separator found in sjson",
    "verify": "signature verification failed",
}
"""What uploaders read, in the words of Perkeep, by the operation of a signature's error."""


def _reason(error: StoreError) -> str:
    return _REASONS.get(error.operation) or error.reason or str(error)


def _clean(camli_type: str) -> str:
    """Any text can stand as a type in a foreign blob; a row takes no NUL and no surrogates."""
    return utf8(camli_type.replace("\0", "\ufffd")).decode()


class _Read(NamedTuple):
    """A schema blob. decoded: its members as they stand in the text."""

    data: bytes
    schema: Schema
    decoded: dict[str, object]


def _rows(ref: Ref, blob: _Read, blobs: _Tracker, zone: tzinfo) -> tuple[list[Row], Claim | None]:
    schema = blob.schema
    if schema.type == "claim":
        return _claim(ref, blob, blobs)
    if schema.type == "permanode":
        verify(blob.data, blobs, blob.decoded)
    elif schema.type == "file":
        return file_rows(ref, schema, blobs, zone), None
    elif schema.type == "directory":
        return _directory(ref, schema, blobs, zone), None
    return [], None


def _directory(ref: Ref, schema: Schema, blobs: _Tracker, zone: tzinfo) -> list[Row]:
    children: list[Ref] = []
    try:
        for child in directory_members(blobs, schema):
            children.append(child)
            if len(children) > MAX_CHILDREN:
                return []
    except (Corrupt, Invalid):
        if blobs.lacking is not None:
            raise
        return []  # not a directory that can be listed: stored all the same
    info = FileInfo(len(children), schema.file_name, "", None)
    rows = [(f"dirchild|{ref}|{child}".encode(), b"1") for child in dict.fromkeys(children)]
    named = named_ns(info.name, None, zone)
    return [
        file_info_row(ref, info),
        *rows,
        *([] if named is None else [dated_row(ref, named)]),
    ]


def _claim(ref: Ref, blob: _Read, blobs: _Tracker) -> tuple[list[Row], Claim | None]:
    signer_ref = blob.schema.ref("camliSigner")
    if signer_ref is None:
        return [], None
    unsigned = read_claim(ref, blob.schema, Verification(signer_ref, "", {}))
    if unsigned is None:
        return [], None  # it would count nowhere, whoever signed it: nothing is checked
    # One that lacks the signature is refused too (tests/vectors/http/share.json).
    signed = verify(blob.data, blobs, blob.decoded)
    claim = unsigned._replace(signer_ref=signed.signer_ref, key_id=signed.key_id)
    rows: list[Row] = [(f"signerkeyid:{signed.signer_ref}".encode(), signed.key_id.encode())]
    if claim.type == DELETE:
        return rows, None if claim.target is None else claim
    if claim.permanode is not None:
        rows += _permanode_rows(claim, claim.permanode)
    return rows, None


def _permanode_rows(claim: Claim, permanode: Ref) -> list[Row]:
    date = format_time(claim.date_ns)
    rows = [claim_row(claim, permanode, date), recent_row(claim, permanode, date)]
    attribute = claim.attribute
    if attribute in LOOKUP_ATTRIBUTES:
        if claim.type != DEL_ATTRIBUTE:
            rows.append(value_row(claim, permanode, date))
    elif attribute == "camliMember":
        child = parse_ref(claim.value)
        if child is not None:
            rows.append(edge_row(claim, permanode, child))
    elif attribute.startswith(PATH_ATTRIBUTE):
        target = parse_ref(claim.value)
        if target is not None:
            rows += path_rows(claim, permanode, date, target)
    return rows


def deletion_rows(claim: Claim, target: Ref, target_type: str | None) -> list[Row]:
    """The rows of a delete claim whose target is indexed as this camliType (None: plain)."""
    if target_type not in ("permanode", "claim"):
        return []
    date = format_time(claim.date_ns)
    rows = [deleted_row(claim, target, date)]
    if target_type == "permanode":
        plain = claim._replace(attribute="", value="")
        rows += [claim_row(plain, target, date), recent_row(plain, target, date)]
    return rows
