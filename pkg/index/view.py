"""Everything that is read from the rows: blobs, claims, deletions, files, places."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import groupby, islice
from typing import Final

from ..blob import Ref
from ..schema.claims import Claim, in_order
from ..sorted.kv import KeyValue, after_prefix
from .clips import MEDIA, NOTHING, Clip, parse_clip
from .fulltext import Texts
from .rows import (
    LONG,
    DamagedRow,
    FileInfo,
    Meta,
    Row,
    dated_key,
    file_info_key,
    meta_key,
    parse_claim,
    parse_file_info,
    parse_meta,
    unesc,
)
from .trees import BIG, Tree, parse_tree, tree_key

MOST_FOLDERS: Final = 100
"""In a path; damaged rows could lead in a circle."""

_PART_NUMBER_SIZE: Final = len("|00000")


class Marks:
    """Which `pk|dirty` rows there are. Used under the index's lock.

    To look for them would be to walk over all that were there since the engine tidied up last.
    known: their keys; None: not known, so they have to be looked for. version: goes up whenever
    some are added.
    """

    MOST: Final = 10_000

    def __init__(self) -> None:
        self.known: set[bytes] | None = None
        self.version = 0

    def add(self, keys: Iterable[bytes]) -> None:
        added = set(keys)
        self.version += bool(added)
        if self.known is not None:
            self.known |= added
            if len(self.known) > self.MOST:
                self.known = None


class View:
    """Reads rows; keeps nothing but them. Safe to use from many threads.

    owner_key_ids: whose claims make the attributes of permanodes, in order of precedence.
    has_long_values: whether some values lie in parts, in rows of our own. Set by the writer.
    marks: what has changed since it was settled, as far as that is known.
    texts: words of titles, names and files, where somebody keeps them.
    settle_sizes: brings `tree` and `biggest` in step with what has arrived. Set by the index.
    """

    def __init__(self, rows: KeyValue, owner_key_ids: Sequence[str]) -> None:
        self._rows = rows
        self.owner_key_ids: Final = tuple(owner_key_ids)
        self.has_long_values = True
        self.marks: Final = Marks()
        self.texts: Texts | None = None
        self.settle_sizes: Callable[[], None] = lambda: None

    # -- rows -----------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """A value of any length, or None."""
        value = self._rows.get(key)
        if value is None and self.has_long_values:
            parts = [part for _, part in self._rows.prefixed(LONG + key + b"|")]
            return b"".join(parts) if parts else None
        return value

    def scan(self, prefix: bytes, start: bytes = b"") -> Iterator[Row]:
        """Yield the rows whose key begins with the prefix, ascending; values of any length.

        start: the key to begin at; b"": the first.
        """
        short = self._rows.find(max(prefix, start), after_prefix(prefix))
        return merge(short, self._long(prefix, start)) if self.has_long_values else short

    def find(self, start: bytes, end: bytes) -> Iterator[Row]:
        """Yield the rows with start <= key < end; not those whose value lies in parts."""
        return self._rows.find(start, end)

    def _long(self, prefix: bytes, start: bytes) -> Iterator[Row]:
        parts = self._rows.find(LONG + max(prefix, start), after_prefix(LONG + prefix))
        for key, same in groupby(parts, lambda row: row[0][len(LONG) : -_PART_NUMBER_SIZE]):
            yield key, b"".join(part for _, part in same)

    # -- blobs ----------------------------------------------------------------------------------

    def meta(self, ref: str) -> Meta | None:
        """What is known of a blob; None when it is not indexed."""
        value = self.get(meta_key(ref))
        return None if value is None else parse_meta(value)

    def key_id(self, signer: str) -> str | None:
        """The key id behind a signer's ref; None when no claim of it is known."""
        value = self._rows.get(f"signerkeyid:{signer}".encode())
        return None if value is None else value.decode()

    def waiting(self) -> Iterator[tuple[Ref, Ref]]:
        """Yield (blob, what it needs) of those that can't be indexed yet."""
        for key, _ in self._rows.prefixed(b"missing|"):
            _, have, needed = key.decode().split("|")
            yield Ref.trusted(have), Ref.trusted(needed)

    def refused(self) -> Iterator[tuple[Ref, str]]:
        """Yield (blob, reason) of those that never will be indexed."""
        for key, reason in self._rows.prefixed(b"pk|refused|"):
            yield Ref.trusted(key.decode().rpartition("|")[2]), reason.decode()

    # -- claims ---------------------------------------------------------------------------------

    def is_deleted(self, ref: str, counts: Callable[[str], bool] | None = None) -> bool:
        """Whether a delete claim on this permanode or claim stands, that is, is not deleted.

        counts: whether a delete claim is looked at, for a caller who cares who made it; None: all.
        """
        # A stack of our own, for chains of any length. A blob can't name one that names it, but
        # rows can be damaged: what is on the path already is passed over.
        verdicts: dict[str, bool] = {}
        path = {ref: self._deleters(ref, counts)}
        while path:
            current, deleters = next(reversed(path.items()))
            unknown = next((d for d in deleters if d not in verdicts and d not in path), None)
            if unknown is not None and all(verdicts.get(d, True) for d in deleters):
                path[unknown] = self._deleters(unknown, counts)
                continue
            verdicts[current] = not all(verdicts.get(deleter, True) for deleter in deleters)
            del path[current]
        return verdicts[ref]

    def _deleters(self, ref: str, counts: Callable[[str], bool] | None) -> list[str]:
        rows = self._rows.prefixed(f"deleted|{ref}|".encode())
        deleters = (key.decode().rpartition("|")[2] for key, _ in rows)
        return [deleter for deleter in deleters if counts is None or counts(deleter)]

    def claims(self, permanode: str, key_ids: Sequence[str] | None = None) -> list[Claim]:
        """The claims about a permanode, deleted ones too, by date and then by ref.

        key_ids: of these signers only; None: of all.
        """
        prefixes = [f"claim|{permanode}|"]
        if key_ids is not None:
            prefixes = [f"claim|{permanode}|{key_id}|" for key_id in key_ids]
        return in_order(
            parse_claim(key, value)
            for prefix in prefixes
            for key, value in self.scan(prefix.encode())
        )

    def standing_claims(self, permanode: str, key_ids: Sequence[str] | None = None) -> list[Claim]:
        """The claims that are not deleted, by date and then by ref. key_ids: None: the owner's."""
        claims = self.claims(permanode, self.owner_key_ids if key_ids is None else key_ids)
        return [claim for claim in claims if not self.is_deleted(claim.ref)]

    # -- files ----------------------------------------------------------------------------------

    def file_info(self, ref: str) -> FileInfo | None:
        value = self.get(file_info_key(ref))
        return None if value is None else parse_file_info(value)

    def file_times(self, ref: str) -> list[str]:
        """None, one or two time texts: oldest and newest."""
        value = self._rows.get(f"filetimes|{ref}".encode())
        return unesc(value.decode()).split(",") if value else []

    def dated(self, ref: str) -> str | None:
        """When a film was taken, or what date the name of a file or directory tells."""
        value = self._rows.get(dated_key(ref))
        return None if value is None else value.decode()

    def times_of_content(self, ref: str) -> list[str]:
        """What dates a permanode with this content; the first counts."""
        dated = self.dated(ref)
        return self.file_times(ref) if dated is None else [dated]

    def clip(self, whole_ref: str) -> Clip:
        """What is known of a film, or of music that Perkeep has no rows for."""
        value = self._rows.get(MEDIA + whole_ref.encode())
        return NOTHING if value is None else parse_clip(value)

    def image_size(self, ref: str) -> tuple[int, int] | None:
        """Width and height in pixels, also of a film."""
        value = self._rows.get(f"imagesize|{ref}".encode())
        if value is None:
            return self._size_of_film(ref)
        width, bar, height = value.decode().partition("|")
        if not (bar and width.isdecimal() and height.isdecimal()):
            raise DamagedRow("read", "imagesize row", ref)
        return int(width), int(height)

    def _size_of_film(self, ref: str) -> tuple[int, int] | None:
        info = self.file_info(ref)
        if info is None or info.whole_ref is None:
            return None
        tags = self.clip(info.whole_ref).tags
        return (int(tags["width"]), int(tags["height"])) if "width" in tags else None

    def media_tags(self, whole_ref: str, *, of_clips: bool = True) -> dict[str, str]:
        """of_clips: also of what Perkeep has no rows for."""
        prefix = f"mediatag|{whole_ref}|".encode()
        tags = {
            key[len(prefix) :].decode(): unesc(value.decode()) for key, value in self.scan(prefix)
        }
        return tags or (dict(self.clip(whole_ref).tags) if of_clips else {})

    def place_of_content(self, whole_ref: str) -> tuple[float, float] | None:
        """Latitude and longitude in degrees, as a picture's EXIF data tell them, or a film."""
        value = self._rows.get(f"exifgps|{whole_ref}".encode())
        if value is None:
            return self.clip(whole_ref).place
        try:
            latitude, longitude = map(float, value.split(b"|"))
        except ValueError:
            raise DamagedRow("read", "exifgps row", whole_ref) from None
        return latitude, longitude

    def files_of(self, whole_ref: str) -> Iterator[Ref]:
        """Yield the `file` blobs with this content, in ref order."""
        for key, _ in self._rows.prefixed(f"wholetofile|{whole_ref}|".encode()):
            yield Ref.trusted(key.decode().rpartition("|")[2])

    def path(self, ref: Ref) -> str:
        """Names of the folders around a file or directory, and its own, joined by `/`.

        Of several folders around it the first by ref; at most MOST_FOLDERS.
        """
        names: list[str] = []
        place: Ref | None = ref
        while place is not None and len(names) < MOST_FOLDERS:
            info = self.file_info(place)
            names.append("" if info is None else info.name.decode("utf-8", "replace"))
            row = next(self._rows.prefixed(f"pk|parent|{place}|".encode()), None)
            place = None if row is None else Ref.trusted(row[0].decode().rpartition("|")[2])
        return "/".join(reversed(names))

    def tree(self, directory: str) -> Tree | None:
        """What is below a directory, as far as it has been counted."""
        value = self._rows.get(tree_key(directory))
        return None if value is None else parse_tree(value)

    def biggest(self) -> Iterator[Ref]:
        """Yield the directories, those with the most bytes below them first, then by ref."""
        for key, _ in self._rows.prefixed(BIG):
            yield Ref.trusted(key.decode().rpartition("|")[2])

    def children(self, directory: str, limit: int | None = None) -> Iterator[Ref]:
        """Yield distinct members of a directory, in ref order."""
        for key, _ in islice(self._rows.prefixed(f"dirchild|{directory}|".encode()), limit):
            yield Ref.trusted(key.decode().rpartition("|")[2])
