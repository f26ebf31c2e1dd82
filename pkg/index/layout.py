"""Versions and state of the rows: begin an index, bring an older one up to date, wipe one."""

from ..errors import Corrupt, Unsupported
from ..sorted.kv import Batch, KeyValue
from .rows import (
    IN_USE,
    OWN_VERSION,
    OWN_VERSION_KEY,
    SCHEMA_VERSION,
    SCHEMA_VERSION_KEY,
    STATE_KEY,
    WIPING,
    needs_key,
    parse_file_info,
)

_PAGE_ROWS = 10_000
_KEPT_KEYS = frozenset({OWN_VERSION_KEY, SCHEMA_VERSION_KEY, STATE_KEY})


def prepare(rows: KeyValue) -> bool:
    """Make rows usable, and mark them as in use.

    Returns whether they may lack stored blobs: they are new (the old ones may have been lost),
    Perkeep wrote them, or their last user crashed.
    Raises Unsupported for a version that we do not know.
    """
    version = rows.get(SCHEMA_VERSION_KEY)
    is_new = version is None
    if is_new and next(rows.find(), None) is not None:
        raise Unsupported("open", "index", "rows without a version: no index, or a broken one")
    if version == b"4":
        _add_whole_refs(rows)
    elif version not in (None, SCHEMA_VERSION):
        raise Unsupported("open", "index", f"schema version {version!r}, not 5")
    own = rows.get(OWN_VERSION_KEY)
    if own not in (None, OWN_VERSION):
        raise Unsupported("open", "index", f"own rows of version {own!r}")
    if own is None and not is_new:
        _add_needs(rows)
    state = rows.get(STATE_KEY)
    if state == WIPING:
        _delete_all(rows)
    batch = Batch()
    batch.set(SCHEMA_VERSION_KEY, SCHEMA_VERSION)
    batch.set(OWN_VERSION_KEY, OWN_VERSION)
    batch.set(STATE_KEY, IN_USE)
    rows.commit(batch)
    return own is None or state is not None


def wipe(rows: KeyValue) -> None:
    """Delete all rows but those that say what this is. A crash in between is noticed."""
    rows.set(STATE_KEY, WIPING)
    _delete_all(rows)
    rows.set(STATE_KEY, IN_USE)


def _delete_all(rows: KeyValue) -> None:
    batch = Batch()
    for key, _ in rows.find():
        if key not in _KEPT_KEYS:
            batch.delete(key)
        if len(batch) >= _PAGE_ROWS:
            rows.commit(batch, durable=False)
            batch = Batch()
    rows.commit(batch)


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
    # Last: an upgrade that was cut short begins again.
    batch.set(SCHEMA_VERSION_KEY, SCHEMA_VERSION)
    rows.commit(batch)


def _add_needs(rows: KeyValue) -> None:
    """Rows of ours that lead from what is needed to what waits, for an index made by Perkeep.

    Delete claims that came before their target have no such row there: Index.catch_up tries
    them again, because their `have` row says that they are not complete.
    """
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
