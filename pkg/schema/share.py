"""Who may read what through a share claim: one function, without any effect of its own.

A share claim names a target; who knows the ref of the claim may read the target and, if the
share is transitive, what the target links to, step by step (pkg/schema/SIGNING.md, "Shares").
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from ..blob import Fetcher, Ref
from ..errors import Corrupt, Invalid, NotFound, StoreError, Unavailable
from .claims import SHARE, read_claim
from .parse import Schema, parse_object
from .signing import verify
from .text import MAX_SCHEMA_SIZE

MAX_CHAIN: Final = 1000
"""Refs in the chain of one request; each costs a fetch."""


class Refusal(StrEnum):
    """Why access is refused. For the log: who asks must not learn it."""

    CHAIN_TOO_LONG = "viaChainTooLong"
    SHARE_DELETED = "shareDeleted"
    SHARE_FETCH_FAILED = "shareFetchFailed"
    SHARE_BLOB_TOO_LARGE = "shareBlobTooLarge"
    SHARE_BLOB_INVALID = "shareBlobInvalid"
    SHARE_SIGNATURE_INVALID = "shareSignatureInvalid"
    SHARE_OF_ANOTHER = "shareSignerNotOwner"
    SHARE_EXPIRED = "shareExpired"
    SHARE_TARGET_INVALID = "shareTargetInvalid"
    SHARE_NOT_TRANSITIVE = "shareNotTransitive"
    ASSEMBLE_NOT_TRANSITIVE = "assembleNonTransitive"
    LINK_FETCH_FAILED = "viaChainFetchFailed"
    LINK_INVALID = "viaChainInvalidLink"


class Decision(NamedTuple):
    """Whether the last blob of the chain may be given out. code: "" if it may."""

    allowed: bool
    code: Refusal | str = ""
    reason: str = ""


class _RefusedError(Exception):
    def __init__(self, code: Refusal, reason: str = "") -> None:
        super().__init__(code, reason)
        self.decision = Decision(False, code, reason)


def authorise(
    chain: Sequence[Ref],
    blobs: Fetcher,
    is_deleted: Callable[[Ref], bool],
    verify_owner: Callable[[str], bool],
    now_ns: int,
    assemble: bool = False,
) -> Decision:
    """Decide about a request without credentials.

    chain: the share claim first, then its target, then link by link to the blob that is
    wanted, which is last. is_deleted: whether a delete claim on the share is in force.
    verify_owner: whether the key with this id (16 upper-case hex digits) is the owner's.
    now_ns: nanoseconds since the epoch. assemble: the content of the last blob, a file, is
    wanted, which takes a transitive share.
    The last blob is not fetched, unless it is the share itself. Blobs that are missing or
    damaged are a refusal, not an error; raises Unavailable if the store can't say now.
    """
    try:
        if not 1 <= len(chain) <= MAX_CHAIN:
            raise _RefusedError(Refusal.CHAIN_TOO_LONG, f"{len(chain)} refs")
        share = _share(chain[0], blobs, is_deleted, verify_owner, now_ns)
        if len(chain) > 1 and chain[1] != share.ref("target"):
            raise _RefusedError(Refusal.SHARE_TARGET_INVALID, chain[1])
        if not share.boolean("transitive"):
            if len(chain) > 2:
                raise _RefusedError(Refusal.SHARE_NOT_TRANSITIVE, chain[0])
            if assemble:
                raise _RefusedError(Refusal.ASSEMBLE_NOT_TRANSITIVE, chain[0])
        for ref, following in pairwise(chain[1:]):
            if following not in links(_linking(ref, blobs)):
                raise _RefusedError(Refusal.LINK_INVALID, f"{ref} does not link to {following}")
    except _RefusedError as refused:
        return refused.decision
    return Decision(True)


def links(schema: Schema | None) -> frozenset[Ref]:
    """The refs that a transitive share lets follow from this blob; none from most.

    Unlike Perkeep, also from a static set to the sets that it merges: without these the
    members of a large directory could not be reached.
    """
    if schema is None:
        return frozenset()
    if schema.type in ("file", "bytes"):
        try:
            parts = schema.parts
        except Corrupt:
            return frozenset()
        return frozenset(ref for part in parts for ref in part[1:3] if isinstance(ref, Ref))
    if schema.type == "directory":
        entries = schema.ref("entries")
        return frozenset() if entries is None else frozenset([entries])
    if schema.type == "static-set":
        return frozenset(schema.refs("members") or schema.refs("mergeSets"))
    return frozenset()


def _share(
    ref: Ref,
    blobs: Fetcher,
    is_deleted: Callable[[Ref], bool],
    verify_owner: Callable[[str], bool],
    now_ns: int,
) -> Schema:
    if is_deleted(ref):
        raise _RefusedError(Refusal.SHARE_DELETED, ref)
    data = _fetch(ref, blobs, Refusal.SHARE_FETCH_FAILED)
    if len(data) > MAX_SCHEMA_SIZE:
        raise _RefusedError(Refusal.SHARE_BLOB_TOO_LARGE, f"{len(data)} bytes")
    schema = parse_object(data)
    if schema is None or schema.type != "claim":
        raise _RefusedError(Refusal.SHARE_BLOB_INVALID, "not a claim")
    try:
        signed = verify(data, blobs)
    except (Invalid, NotFound, Corrupt) as error:
        raise _RefusedError(Refusal.SHARE_SIGNATURE_INVALID, str(error)) from None
    claim = read_claim(ref, schema, signed)
    if claim is None or claim.type != SHARE or schema.string("authType") != "haveref":
        raise _RefusedError(Refusal.SHARE_BLOB_INVALID, "not a share claim")
    if claim.target is None and schema.members.get("search") is None:
        raise _RefusedError(Refusal.SHARE_BLOB_INVALID, "it shares nothing")
    if not verify_owner(claim.key_id):
        raise _RefusedError(Refusal.SHARE_OF_ANOTHER, f"signed by {claim.key_id}")
    expires_ns = schema.time_ns("expires")
    if expires_ns is not None and expires_ns <= now_ns:
        raise _RefusedError(Refusal.SHARE_EXPIRED, schema.string("expires"))
    return schema


def _linking(ref: Ref, blobs: Fetcher) -> Schema | None:
    return parse_object(_fetch(ref, blobs, Refusal.LINK_FETCH_FAILED))


def _fetch(ref: Ref, blobs: Fetcher, code: Refusal) -> bytes:
    try:
        return blobs.fetch(ref)
    except Unavailable:
        raise
    except StoreError as error:
        raise _RefusedError(code, str(error)) from None
