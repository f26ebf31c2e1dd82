"""Keeps the full text in step with the index, in a thread of its own: never in anybody's way."""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from time import monotonic
from typing import Final

from ..blob import Ref
from ..errors import StoreError
from .corpus import Corpus
from .filetext import TextReader
from .fulltext import Document, FullText, Texts
from .index import Index

log = logging.getLogger("peatkeep.index")

MOST_CHANGED: Final = 10_000
"""Blobs that are remembered one by one; if there are more, all are looked through."""

LULL_S: Final = 1.0
"""Texts are read when nothing was indexed, and nothing given back, for so long: a backup has the
machine to itself, and so has its restoring."""

PATIENCE_S: Final = 30.0
"""So long is waited for that: an index to which something comes all day has texts, too."""

_PAGE: Final = 50
_PAGE_CHARACTERS: Final = 1024 * 1024
"""Of a page's texts that are written together: four times as many bytes, in the worst case."""

_UNSAID: Final = ("camliContent", "camliMember", "camliPath:", "camliNodeType", "xattr:")
"""Attributes (or how they begin) whose values are no text."""


def texts_beside(args: Mapping[str, object]) -> Texts | None:
    """Where the texts of an index are kept whose rows lie there; None: nowhere.

    args: as the configuration has them: {"type": "leveldb", "file": "/a/b"}.
    """
    kind, file = args.get("type"), args.get("file")
    if isinstance(file, str):
        return FullText(Path(file + ".texts"))
    if kind == "postgres" or (kind == "sql" and str(args.get("url")).startswith("postgresql")):
        from .postgrestexts import PostgresTexts  # extra `sql`

        return PostgresTexts(args)
    return None


class TextKeeper:
    """Follows one index from `start` to `stop`. texts: what can be searched meanwhile."""

    def __init__(
        self,
        index: Index,
        texts: Texts,
        used_at: Callable[[], float] = lambda: -math.inf,
        *,
        lull_s: float = LULL_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """texts: closed at the end. used_at: when many blobs were given out last, by
        `time.monotonic`."""
        self.texts: Final = texts
        self._index = index
        self._corpus = Corpus(index.view)
        self._reader = TextReader()
        self._changed: set[Ref] | None = None  # None: all
        self._used_at = used_at
        self._lull_s = lull_s
        self._patience_s = patience_s
        self._noted_at = -lull_s
        self._wake = threading.Condition()
        self._is_stopping = False
        self._is_idle = False
        self._sizes_grew = True  # of directories, since they were counted
        self._thread = threading.Thread(target=self._run, name="texts", daemon=True)
        self._forget = index.watch(self._note)

    def start(self) -> None:
        """What was missed while nobody kept watch is looked for first."""
        self._index.view.texts = self.texts
        self._thread.start()

    def stop(self) -> None:
        self._forget()
        with self._wake:
            self._is_stopping = True
            self._wake.notify_all()
        self._reader.stop()
        if self._thread.is_alive():
            self._thread.join()
        self._index.view.texts = None
        self.texts.close()

    def wait(self, wait_s: float) -> bool:
        """Wait until everything that has arrived so far can be found."""
        with self._wake:
            return self._wake.wait_for(lambda: self._is_idle and self._changed == set(), wait_s)

    def _note(self, changed: set[Ref]) -> None:
        if threading.current_thread() is self._thread:
            return
        with self._wake:
            self._noted_at = monotonic()
            if self._changed is not None:
                self._changed |= changed
                if len(self._changed) > MOST_CHANGED:
                    self._changed = None
            self._wake.notify_all()

    # -- in the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._wake:
                self._is_idle = self._changed is not None and not self._changed
                self._wake.notify_all()
                self._wake.wait_for(lambda: self._is_stopping or self._changed != set())
                patient_until = monotonic() + self._patience_s
                self._wait_for_lull(patient_until)
                if self._is_stopping:
                    return
                changed, self._changed, self._is_idle = self._changed, set(), False
            try:
                self._keep(self._all() if changed is None else iter(changed), patient_until)
                # Nobody asks for sizes yet, and so need not wait.
                if self._sizes_grew and not self._is_stopping:
                    self._sizes_grew = False
                    self._index.settle_sizes()
            except StoreError as error:
                log.warning("full text: %s", error)

    def _wait_for_lull(self, patient_until: float) -> None:
        """With the lock held."""
        while not self._is_stopping:
            busy_at = max(self._noted_at, self._used_at())
            wait_s = min(busy_at + self._lull_s, patient_until) - monotonic()
            if wait_s <= 0:
                return
            self._wake.wait(wait_s)

    def _all(self) -> Iterator[Ref]:
        corpus = self._corpus
        files = (ref for ref in corpus.of_type("file") if not self.texts.has(ref))
        return chain(corpus.of_type("permanode"), files)

    def _keep(self, refs: Iterator[Ref], patient_until: float) -> None:
        while (page := list(islice(refs, _PAGE))) and not self._is_stopping:
            with self._wake:
                self._wait_for_lull(patient_until)
            self._index.settle()
            documents = self._documents(page)
            while part := _first_of(documents):
                # Whoever was told of the blobs could not find them by their texts yet.
                self._index.tell(self.texts.put(part))

    def _documents(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Document | None]]:
        for ref in refs:
            meta = self._index.view.meta(ref)
            self._sizes_grew |= meta is not None and meta.camli_type in ("file", "directory")
            if meta is not None and meta.camli_type == "permanode":
                yield ref, self._of_permanode(ref)
            elif meta is not None and meta.camli_type == "file":
                document = self._of_file(ref)
                if self._is_stopping:  # perhaps given up: the next start reads what is not there
                    return
                yield ref, document

    def _of_permanode(self, ref: Ref) -> Document | None:
        snapshot = self._corpus.snapshot(ref)
        if snapshot.is_deleted:
            return None
        attributes = snapshot.attributes
        body = "\n".join(
            value
            for name, values in attributes.items()
            if name != "title" and not name.startswith(_UNSAID)
            for value in values
        )
        document = Document("\n".join(attributes.get("title", ())), "", body)
        return document if any(document) else None

    def _of_file(self, ref: Ref) -> Document:
        info = self._index.view.file_info(ref)
        if info is None:
            return Document()
        text = self._reader.text_of(self._index.blobs, ref, info.mime, info.size)
        return Document("", info.name.decode("utf-8", "replace"), text)


def _first_of(
    documents: Iterator[tuple[Ref, Document | None]],
) -> list[tuple[Ref, Document | None]]:
    """As many as fit in memory together, at least one; none at the end."""
    found, size = [], 0
    for ref, document in documents:
        found.append((ref, document))
        size += 0 if document is None else sum(map(len, document))
        if size > _PAGE_CHARACTERS:
            break
    return found
