"""What one blob says to the index: pure, so it may run in any thread or process.

Only the target of a delete claim is left to the writer, who knows what is indexed.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import tzinfo
from typing import Final, NamedTuple

from ..blob import Ref
from ..errors import Corrupt, Invalid, NotFound, StoreError
from ..schema.claims import DEL_ATTRIBUTE, DELETE, Claim, is_dated, read_claim
from ..schema.directory import directory_members
from ..schema.parse import Schema, parse
from ..schema.signing import VERDICTS, Verification, verify
from ..schema.times import format_time
from ..schema.usual import UsualClaim, UsualPermanode, key_id_of, read_usual
from .derived import derived_rows, dirty_key, has_row, type_rows
from .files import file_rows, named_ns
from .mime import BLOB_HEAD_SIZE, sniff
from .rows import (
    CLAIM,
    SCHEMA_MIME,
    Escaped,
    FileInfo,
    Row,
    attribute_rows,
    claim_row,
    dated_row,
    deleted_row,
    file_info_row,
    is_plain_row,
    meta_row,
    recent_row,
    reverse_time,
    signer_row,
    utf8,
)
from .sources import FileSource
from .words import words_of

MAX_CHILDREN: Final = 1_000_000
"""Members of a directory that are indexed; one with more has no rows."""


_PLAIN_ATTRIBUTE: Final = 100
_PLAIN_VALUE: Final = 300
"""Characters of an attribute and of a value, escaped, whose rows are plain for sure."""

Word = tuple[str, str]
"""An attribute, escaped and short, and a word of a value of it."""


class Outcome(NamedTuple):
    """What is to be written for a blob, or why nothing is (yet).

    mime: as the `meta` row has it. rows: all but `have`. derived: what follows from them, but
    the rows by which words are found, which most often are there already: these follow from
    `words`. is_plain: whether all these rows are (`rows.is_plain_row`).
    deletion: the claim, of a delete claim; it has a target.
    needs: the first blob that is absent or damaged and without which it can't be indexed.
    refused: why it never will be; "" if it is not.
    """

    ref: Ref
    size: int
    mime: str = ""
    rows: Sequence[Row] = ()
    derived: Sequence[Row] = ()
    words: Sequence[Word] = ()
    is_plain: bool = True
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
    tracker = _Tracker(blobs)
    try:
        usual = read_usual(data)
        if usual is not None:
            return _of_usual(ref, len(data), usual, tracker)
        schema = parse(data)
        if schema is None:
            mime = sniff(data[:BLOB_HEAD_SIZE])
            return Outcome(ref, len(data), mime, [meta_row(ref, len(data), mime)])
        return _of_schema(ref, data, schema, tracker, zone)
    except (NotFound, Corrupt, Invalid) as error:
        if tracker.lacking is not None:
            return Outcome(ref, len(data), needs=tracker.lacking)
        return Outcome(ref, len(data), refused=_reason(error))


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


def _reason(error: StoreError) -> str:
    """What uploaders read."""
    return VERDICTS.get(error.operation) or error.reason or str(error)


def _clean(camli_type: str) -> str:
    """Any text can stand as a type in a foreign blob; a row takes no NUL and no surrogates."""
    return utf8(camli_type.replace("\0", "\ufffd")).decode()


# -- permanodes and claims in their usual form ---------------------------------------------------

_PERMANODE_MIME: Final = SCHEMA_MIME + "permanode"
_CLAIM_MIME: Final = SCHEMA_MIME + "claim"


def _of_usual(ref: Ref, size: int, blob: UsualClaim | UsualPermanode, blobs: _Tracker) -> Outcome:
    """The same as of any other, at a fraction of the time: nearly all signed blobs are here."""
    if isinstance(blob, UsualPermanode):
        key_id_of(blob, blobs)
        rows = [meta_row(ref, size, _PERMANODE_MIME)]
        return Outcome(ref, size, _PERMANODE_MIME, rows, type_rows(ref, "permanode"))
    meta = meta_row(ref, size, _CLAIM_MIME)
    if not is_dated(blob.date_ns):
        return Outcome(ref, size, _CLAIM_MIME, [meta])
    key_id = key_id_of(blob, blobs)
    signer, _, _, date_ns, date, kind, permanode, attribute, value = blob
    claim = Claim(ref, signer, key_id, date_ns, kind, permanode, attribute, value)
    escaped = Escaped.of(claim, date)
    rows = [signer_row(claim), *attribute_rows(claim, permanode, escaped), meta]
    if len(escaped.attribute) > _PLAIN_ATTRIBUTE or len(escaped.value) > _PLAIN_VALUE:
        derived = [follows for row in rows for follows in derived_rows(row)]
        return Outcome(ref, size, _CLAIM_MIME, rows, derived, is_plain=False)
    derived = [(dirty_key(permanode), b"")]
    words: Sequence[Word] = ()
    if kind != DEL_ATTRIBUTE:
        derived.append(has_row(permanode, escaped.attribute, escaped.value))
        words = [(escaped.attribute, word) for word in words_of(value) or ()]
    return Outcome(ref, size, _CLAIM_MIME, rows, derived, words)


# -- all other blobs ------------------------------------------------------------------------------


def _of_schema(ref: Ref, data: bytes, schema: Schema, blobs: _Tracker, zone: tzinfo) -> Outcome:
    rows, deletion = _rows(ref, data, schema, blobs, zone)
    mime = SCHEMA_MIME + _clean(schema.type)
    rows.append(meta_row(ref, len(data), mime))
    derived = [follows for row in rows for follows in derived_rows(row)]
    return Outcome(ref, len(data), mime, rows, derived, (), all(map(is_plain_row, rows)), deletion)


def _rows(
    ref: Ref, data: bytes, schema: Schema, blobs: _Tracker, zone: tzinfo
) -> tuple[list[Row], Claim | None]:
    if schema.type == "claim":
        return _claim(ref, data, schema, blobs)
    if schema.type == "permanode":
        verify(data, blobs)
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


def _claim(
    ref: Ref, data: bytes, schema: Schema, blobs: _Tracker
) -> tuple[list[Row], Claim | None]:
    signer_ref = schema.ref("camliSigner")
    if signer_ref is None:
        return [], None
    unsigned = read_claim(ref, schema, Verification(signer_ref, "", {}))
    if unsigned is None:
        return [], None  # it would count nowhere, whoever signed it: nothing is checked
    # One that lacks the signature is refused too (tests/vectors/http/share.json).
    signed = verify(data, blobs)
    claim = unsigned._replace(signer_ref=signed.signer_ref, key_id=signed.key_id)
    rows = [signer_row(claim)]
    if claim.type == DELETE:
        return rows, None if claim.target is None else claim
    if claim.permanode is not None:
        rows += attribute_rows(claim, claim.permanode, Escaped.of(claim))
    return rows, None


def deletion_rows(claim: Claim, target: Ref, target_type: str | None) -> list[Row]:
    """The rows of a delete claim whose target is indexed as this camliType (None: plain)."""
    if target_type not in ("permanode", "claim"):
        return []
    date = format_time(claim.date_ns)
    rows = [deleted_row(claim, target, date)]
    if target_type == "permanode":
        plain = claim._replace(attribute="", value="")
        escaped = Escaped(date, reverse_time(date), "", "")
        rows += [claim_row(plain, target, escaped), recent_row(plain, target, escaped)]
    return rows
