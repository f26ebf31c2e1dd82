"""Turning records into removed ones, in place."""

from collections.abc import Iterator
from contextlib import contextmanager

from ...blob import Ref
from ...errors import StoreError
from ..filesystem import translate
from .files import PackFileSystem
from .packs import Packs
from .records import Place, removed_header


def overwrite(packs: Packs, files: PackFileSystem, gone: list[tuple[Ref, Place]]) -> None:
    """Turn the records of blobs into removed ones, durably.

    What else a wrong row may point at belongs to others, and stays. Raises Unavailable where a
    record could not be written (it may be tried again), OSError where a sync failed.
    """
    by_pack: dict[int, list[tuple[Ref, Place]]] = {}
    for ref, place in gone:
        by_pack.setdefault(place.pack, []).append((ref, place))
    for number, records in sorted(by_pack.items()):
        path = packs.path(number)
        with _translated(path):
            descriptor = files.open_write(path)
        try:
            with _translated(path):
                for ref, place in records:
                    _overwrite_one(packs, files, descriptor, ref, place)
            files.sync_data(descriptor)
        finally:
            files.close(descriptor)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise translate(error, "remove", path) from error


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
