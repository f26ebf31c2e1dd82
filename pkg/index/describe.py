"""Describe blobs as JSON: what they are, and what hangs on them (pkg/index/README.md)."""

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from ..blob import Ref, parse_ref
from .attributes import Attributes, Place, attributes_of, place_of, place_of_file
from .clips import is_clip
from .rows import Meta
from .snapshot import kept
from .view import View

MAX_DIR_CHILDREN: Final = 1000
USUAL_DIR_CHILDREN: Final = 50
MAX_DESCRIBED: Final = 100_000
"""Blobs in one answer; the rest of a larger tree is left out."""

MAX_NUMBER: Final = 2**63 - 1
"""That readers of JSON take; what is larger is told as this."""

_REF_IN_TEXT = re.compile(r"\b[a-z][a-z0-9]*-[a-f0-9]+\b", re.ASCII)

Json = dict[str, Any]


class Rule(NamedTuple):
    """Which refs in attributes of described permanodes are described as well.

    attributes: names; one that ends in `*` means all that begin so. if_result_root: only for
    what was asked for. if_node_type: only where the first camliNodeType is this ("": any).
    parent: the rule that must have led to the permanode, as an index; None at the top.
    """

    attributes: tuple[str, ...]
    if_result_root: bool = False
    if_node_type: str = ""
    parent: int | None = None


class DescribeRequest(NamedTuple):
    """depth: at least 1. max_dir_children: of each directory. at_ns: None for now.

    rules: parents before children. sizes: whether to tell what is below directories.
    paths: whether to tell in which folders files and directories are. facts: whether to tell what
    Perkeep does not know: dates in names, tags of films and of music other than MP3.
    """

    refs: tuple[Ref, ...]
    depth: int = 1
    max_dir_children: int = USUAL_DIR_CHILDREN
    at_ns: int | None = None
    rules: tuple[Rule, ...] = ()
    sizes: bool = False
    paths: bool = False
    facts: bool = False


def describe(view: View, request: DescribeRequest) -> Json:
    """`{"meta": {ref: description}}`; unknown refs are left out."""
    return {"meta": describe_meta(view, request)}


def describe_meta(view: View, request: DescribeRequest) -> Json:
    if request.sizes:
        view.settle_sizes()
    walk = _Walk(view, request)
    walk.follow_depth(request.refs, request.depth)
    walk.follow_rules()
    return dict(sorted(walk.meta.items()))  # as Perkeep writes it


class _Walk:
    """One request at work. meta: the descriptions so far; attributes: of the permanodes in it."""

    def __init__(self, view: View, request: DescribeRequest) -> None:
        self._view = view
        self._request = request
        self.meta: Json = {}
        self.attributes: dict[str, Attributes] = {}
        self._unknown: set[str] = set()
        self._is_settled = request.at_ns is None and view.marks.known == set()

    def follow_depth(self, refs: Iterable[Ref], depth: int) -> None:
        """Describe refs, then level by level what they name, so each at its greatest depth."""
        seen: set[str] = set()
        level: Iterable[Ref] = refs
        for remaining in range(depth, 0, -1):
            below: list[Ref] = []
            queue = deque(level)
            while queue:
                ref = queue.popleft()
                if ref in seen:
                    continue
                seen.add(ref)
                description = self._described(ref)
                if description is None:
                    continue
                queue.extend(map(Ref.trusted, description.get("dirChildren", ())))
                if remaining > 1 and ref in self.attributes:
                    below.extend(_refs_in_texts(self.attributes[ref].values))
            level = below

    def follow_rules(self) -> None:
        """Apply the rules until nothing new turns up."""
        rules = self._request.rules
        led_to: list[set[str]] = [set() for _ in rules]
        size = -1
        while size != (size := len(self.meta) + sum(map(len, led_to))):
            for number, rule in enumerate(rules):
                for permanode in self._permanodes(rule, led_to):
                    values = self.attributes[permanode].values
                    for ref in _refs_of_rule(rule, values):
                        led_to[number].add(ref)
                        if ref not in self.meta:
                            self.follow_depth([ref], 1)

    def _permanodes(self, rule: Rule, led_to: Sequence[Collection[str]]) -> list[str]:
        candidates: Iterable[str] = list(self.attributes)
        if rule.parent is not None:
            candidates = led_to[rule.parent] & self.attributes.keys()
        roots = set(self._request.refs)
        return [
            ref
            for ref in candidates
            if (not rule.if_result_root or ref in roots)
            and rule.if_node_type in ("", self.attributes[ref].first("camliNodeType"))
        ]

    def _state(self, permanode: Ref) -> tuple[Attributes, Place | None]:
        """Attributes and place: from one row, if that is of the moment asked for."""
        view, at_ns = self._view, self._request.at_ns
        if self._is_settled:
            found = kept(view, permanode)
            if found is not None and not found.is_cut:
                return found.shown, found.place
        attributes = attributes_of(view, permanode, at_ns)
        return attributes, place_of(view, attributes, at_ns)

    def _described(self, ref: Ref) -> Json | None:
        """The description, made when asked for first; None for an unknown blob."""
        found: Json | None = self.meta.get(ref)
        if found is not None or ref in self._unknown:
            return found
        meta = self._view.meta(ref) if len(self.meta) < MAX_DESCRIBED else None
        if meta is None:
            self._unknown.add(ref)
            return None
        description: Json = {"blobRef": ref}
        if meta.camli_type:
            description["camliType"] = meta.camli_type
        description["size"] = meta.size
        self.meta[ref] = description
        self._add_details(ref, meta, description)
        return description

    def _add_details(self, ref: Ref, meta: Meta, description: Json) -> None:
        if meta.camli_type == "permanode":
            attributes, place = self._state(ref)
            self.attributes[ref] = attributes
            values = dict(sorted(attributes.values.items()))
            description["permanode"] = {"attr": values, "modtime": attributes.modified}
            _add_place(description, place)
        elif meta.camli_type == "file":
            self._add_file(ref, description)
        elif meta.camli_type == "directory":
            self._add_directory(ref, description)
        if self._request.paths and ("file" in description or "dir" in description):
            description["path"] = self._view.path(ref)

    def _add_file(self, ref: Ref, description: Json) -> None:
        view = self._view
        info = view.file_info(ref)
        if info is None:
            return
        file: Json = {"fileName": info.name.decode("utf-8", "replace"), "size": info.size}
        if info.mime:
            file["mimeType"] = info.mime
        file |= zip(("time", "modTime"), view.file_times(ref), strict=False)
        self._add_date(ref, file)
        file["wholeRef"] = info.whole_ref
        description["file"] = file
        if info.mime.startswith("image/"):
            size = view.image_size(ref)
            if size is not None:
                description["image"] = {"width": size[0], "height": size[1]}
        if is_clip(info.mime) and info.whole_ref is not None:
            tags = view.media_tags(info.whole_ref, of_clips=self._request.facts)
            if tags:
                description["mediaTags"] = tags
        _add_place(description, place_of_file(view, ref))

    def _add_date(self, ref: Ref, description: Json) -> None:
        """The day that a name tells."""
        if self._request.facts and (dated := self._view.dated(ref)) is not None:
            description["dated"] = dated

    def _add_directory(self, ref: Ref, description: Json) -> None:
        info = self._view.file_info(ref)
        if info is None:  # a directory whose entries are no set: nothing more is known of it
            return
        name = info.name.decode("utf-8", "replace")
        description["dir"] = {"fileName": name, "size": info.size, "wholeRef": None}
        self._add_date(ref, description["dir"])
        tree = self._view.tree(ref) if self._request.sizes else None
        if tree is not None:
            numbers = {"size": tree.size_bytes, "files": tree.files, "dirs": tree.directories}
            description["tree"] = {name: min(n, MAX_NUMBER) for name, n in numbers.items()}
        children = list(self._view.children(ref, self._request.max_dir_children))
        if children:
            description["dirChildren"] = children


def _add_place(description: Json, place: Place | None) -> None:
    if place is not None:
        description["location"] = {"latitude": place[0], "longitude": place[1]}


def _refs_in_texts(values: dict[str, list[str]]) -> Iterator[Ref]:
    """Every ref of a known hash that stands in attribute names and values, also within text."""
    for name, texts in values.items():
        for text in (name, *texts):
            for word in _REF_IN_TEXT.findall(text):
                ref = parse_ref(word)
                if ref is not None and ref.is_supported:
                    yield ref


def _refs_of_rule(rule: Rule, values: dict[str, list[str]]) -> Iterator[Ref]:
    """The values that are refs of the attributes that a rule names."""
    for name, texts in values.items():
        if any(_names(entry, name) for entry in rule.attributes):
            for text in texts:
                ref = parse_ref(text)
                if ref is not None:
                    yield ref


def _names(entry: str, attribute: str) -> bool:
    return attribute.startswith(entry[:-1]) if entry.endswith("*") else attribute == entry
