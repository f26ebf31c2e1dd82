"""Whether a file or a directory matches a constraint."""

from collections.abc import Callable
from typing import Final

from ..blob import Ref
from ..index.rows import FileInfo, Meta
from .constraint import Constraint, DirConstraint, FileConstraint, MediaTagConstraint
from .facts import Facts
from .gotext import parse_int
from .prefix import has_prefix
from .values import float_matches, int_matches, place_matches, string_matches, time_matches

MAX_DEPTH: Final = 100
"""Directories within each other that a recursive test follows."""


class FileMatcher:
    """Tests of files and directories for one query. matches: tests other constraints."""

    def __init__(self, facts: Facts, matches: Callable[[Constraint, Ref], bool]) -> None:
        self._facts = facts
        self._matches = matches
        self._parents: dict[Ref, list[Ref]] = {}

    # -- files ----------------------------------------------------------------------------------

    def file(self, test: FileConstraint, blob: Ref, meta: Meta) -> bool:
        if meta.camli_type != "file":
            return False
        info = self._facts.file_info(blob)
        return (
            info is not None
            and _matches_info(test, info)
            and self._matches_sides(test, blob)
            and self._matches_times(test, blob)
            and self._matches_place(test, blob)
            and (test.media_tag is None or self._matches_tag(test.media_tag, info))
            and (test.parent_dir is None or self._has_parent(test.parent_dir, blob))
        )

    def _matches_sides(self, test: FileConstraint, blob: Ref) -> bool:
        if test.width is None and test.height is None and test.width_height_ratio is None:
            return True
        size = self._facts.corpus.view.image_size(blob)
        if size is None or size[0] == 0 or size[1] == 0:
            return False
        if test.width is not None and not int_matches(test.width, size[0]):
            return False
        if test.height is not None and not int_matches(test.height, size[1]):
            return False
        ratio = size[0] / size[1]
        return test.width_height_ratio is None or float_matches(test.width_height_ratio, ratio)

    def _matches_times(self, test: FileConstraint, blob: Ref) -> bool:
        for bounds, number in ((test.time, 0), (test.mod_time, 1)):
            if bounds is None:
                continue
            times_ns = self._facts.file_times_ns(blob)
            if len(times_ns) <= number:
                return False
            if not time_matches(bounds, times_ns[number], self._facts.now_ns):
                return False
        return True

    def _matches_place(self, test: FileConstraint, blob: Ref) -> bool:
        if test.location is None:
            return True
        place = self._facts.place((blob, None))
        return place is not None and place_matches(test.location, place)

    def _matches_tag(self, test: MediaTagConstraint, info: FileInfo) -> bool:
        tags = {}
        if info.whole_ref is not None:
            tags = self._facts.corpus.view.media_tags(info.whole_ref)
        value = tags.get(test.tag, "")
        if test.int is not None:
            number = parse_int(value)
            if number is None or not int_matches(test.int, number):
                return False
        return test.string is None or string_matches(test.string, value)

    # -- directories ----------------------------------------------------------------------------

    def directory(self, test: DirConstraint, blob: Ref, meta: Meta) -> bool:
        return self._directory(test, blob, meta, 0)

    def _directory(self, test: DirConstraint, blob: Ref, meta: Meta | None, depth: int) -> bool:
        self._facts.step()
        if meta is None or meta.camli_type != "directory" or depth > MAX_DEPTH:
            return False
        if test.blob_ref_prefix and not has_prefix(blob, test.blob_ref_prefix):
            return False
        info = self._facts.file_info(blob)
        if info is None:
            return False
        if test.file_name is not None and not string_matches(test.file_name, file_name(info)):
            return False
        if test.top_file_count is not None:
            count = sum(1 for _ in self._facts.corpus.view.children(blob))
            if not int_matches(test.top_file_count, count):
                return False
        if test.parent_dir is not None and not self._has_parent(test.parent_dir, blob):
            return False
        return self._contains(test, blob, depth)

    def _contains(self, test: DirConstraint, blob: Ref, depth: int) -> bool:
        inner = test.recursive_contains if test.contains is None else test.contains
        if inner is None:
            return True
        children = self._facts.corpus.view.children
        if any(self._matches(inner, child) for child in children(blob)):
            return True
        if test.recursive_contains is None:
            return False
        return any(
            self._directory(test, child, self._facts.meta(child), depth + 1)
            for child in children(blob)
        )

    def _has_parent(self, test: DirConstraint, blob: Ref) -> bool:
        return any(
            self._directory(test, parent, self._facts.meta(parent), 0)
            for parent in self._facts.corpus.directories_of(blob)
        )


def file_name(info: FileInfo) -> str:
    """The name as text; lone surrogates stand for bytes that are not UTF-8."""
    return info.name.decode("utf-8", "surrogateescape")


def _matches_info(test: FileConstraint, info: FileInfo) -> bool:
    if test.file_size is not None and not int_matches(test.file_size, info.size):
        return False
    if test.file_name is not None and not string_matches(test.file_name, file_name(info)):
        return False
    if test.mime_type is not None and not string_matches(test.mime_type, info.mime):
        return False
    if test.whole_ref is not None and info.whole_ref != test.whole_ref:
        return False
    return not test.is_image or info.mime.startswith("image/")
