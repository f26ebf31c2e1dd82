"""Write a file: chunks, the `bytes` blobs above them, and the file blob last."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..blob import Ref
from .chunker import cuts
from .filetree import BlobSink as BlobSink
from .filetree import FileTree


class WrittenFile(NamedTuple):
    """ref: of the file blob. size: of the content, in bytes. whole_ref: of the whole content."""

    ref: Ref
    size: int
    whole_ref: Ref


def write_file(out: BlobSink, data: Iterable[bytes], members: Mapping[str, object]) -> WrittenFile:
    """Store a byte stream as a file, in constant memory.

    out: gets each blob when it is made, those that it refers to before it, the file blob
    last; equal chunks each time that they occur. data: pieces of any length.
    members: those of the file blob apart from `parts`, as `node.node_members` makes them.
    """
    whole = WholeRef()
    tree = FileTree(out)
    for chunk in cuts(data):
        ref = Ref.of(chunk.data)
        whole.add(chunk.data, ref)
        out(ref, chunk.data)
        tree.add(len(chunk.data), ref, chunk.bits)
    text = tree.file_blob(members)
    ref = Ref.of(text)
    out(ref, text)
    return WrittenFile(ref, tree.size, whole.ref())


class WholeRef:
    """The ref of a file's whole content, from its chunks in order.

    A single chunk is not hashed again: most files are one chunk.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha224()
        self._only: tuple[bytes, Ref] | None = None
        self._is_empty = True

    def add(self, data: bytes, ref: Ref) -> None:
        if self._is_empty:
            self._is_empty = False
            self._only = data, ref
            return
        if self._only is not None:
            self._hash.update(self._only[0])
            self._only = None
        self._hash.update(data)

    def ref(self) -> Ref:
        if self._only is not None:
            return self._only[1]
        return Ref.from_digest("sha224", self._hash.digest())
