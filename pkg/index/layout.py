"""The version of the rows: begin an index, bring an older one up to date, refuse others."""

from ..errors import Corrupt, Unsupported
from ..sorted.kv import Batch, KeyValue
from .rows import (
    OWN_VERSION,
    OWN_VERSION_KEY,
    SCHEMA_VERSION,
    SCHEMA_VERSION_KEY,
    needs_key,
    parse_file_info,
)

_PAGE_ROWS = 10_000


def prepare(rows: KeyValue) -> None:
    """Make rows usable: write versions into an empty index, complete one that Perkeep made.

    Raises Unsupported for a version that we do not know.
    """
    version = rows.get(SCHEMA_VERSION_KEY)
    if version is None:
        if next(rows.find(), None) is not None:
            raise Unsupported("open", "index", "rows without a version: no index, or a broken one")
        rows.set(SCHEMA_VERSION_KEY, SCHEMA_VERSION)
    elif version == b"4":
        _add_whole_refs(rows)
    elif version != SCHEMA_VERSION:
        raise Unsupported("open", "index", f"schema version {version.decode()!r}, not 5")
    own = rows.get(OWN_VERSION_KEY)
    if own is None:
        _add_needs(rows)
        rows.set(OWN_VERSION_KEY, OWN_VERSION)
    elif own != OWN_VERSION:
        raise Unsupported("open", "index", f"own rows of version {own.decode()!r}")


def _add_whole_refs(rows: KeyValue) -> None:
    """Version 4 to 5: `fileinfo` tells the digest of the content, as `wholetofile` did alone."""
    batch = Batch()
    for key, _ in rows.prefixed(b"wholetofile|"):
        _, whole_ref, file_ref = key.decode().split("|")
        info_key = f"fileinfo|{file_ref}".encode()
        value = rows.get(info_key)
        if value is not None and parse_file_info(value).whole_ref is None:
            first_three = b"|".join(value.split(b"|")[:3])
            batch.set(info_key, first_three + f"|{whole_ref}".encode())
        if len(batch) >= _PAGE_ROWS:
            rows.commit(batch, durable=False)
            batch = Batch()
    batch.set(b"schemaversion", SCHEMA_VERSION)
    rows.commit(batch)


def _add_needs(rows: KeyValue) -> None:
    """Rows of ours that lead from what is needed to what waits, for an index made by Perkeep."""
    batch = Batch()
    for key, _ in rows.prefixed(b"missing|"):
        words = key.decode().split("|")
        if len(words) != 3:
            raise Corrupt("read", "missing row", repr(key[:200]))
        batch.set(needs_key(words[2], words[1]), b"")
        if len(batch) >= _PAGE_ROWS:
            rows.commit(batch, durable=False)
            batch = Batch()
    rows.commit(batch)
    # Delete claims that came before their target have no such row there: Index.catch_up tries
    # them again, because their `have` row says that they are not complete.
