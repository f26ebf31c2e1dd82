"""Turning records into removed ones, in place."""

from ...blob import Ref
from ...errors import StoreError
from .files import PackFileSystem
from .packs import Packs
from .records import Place, removed_header


def overwrite(packs: Packs, files: PackFileSystem, gone: list[tuple[Ref, Place]]) -> None:
    """Turn the records of blobs into removed ones, durably.

    What else a wrong row may point at belongs to others, and stays. Raises OSError.
    """
    by_pack: dict[int, list[tuple[Ref, Place]]] = {}
    for ref, place in gone:
        by_pack.setdefault(place.pack, []).append((ref, place))
    for number, records in sorted(by_pack.items()):
        descriptor = files.open_write(packs.path(number))
        try:
            for ref, place in records:
                _overwrite_one(packs, files, descriptor, ref, place)
            files.sync_data(descriptor)
        finally:
            files.close(descriptor)


def _overwrite_one(
    packs: Packs, files: PackFileSystem, descriptor: int, ref: Ref, place: Place
) -> None:
    """Overwrite a blob's own record, or its bytes where the header before them is damaged."""
    try:
        if packs.has_header(ref, place):
            head = removed_header(ref, place.size)
            files.write_all_at(descriptor, head, place.offset - len(head))
        elif not ref.matches(packs.read(place)):
            return
    except StoreError:
        return  # unreadable, so nobody can read the blob there either
    files.zero(descriptor, place.offset, place.size)
