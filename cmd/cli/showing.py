"""Answers of the search handler as tables, for people at a terminal."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

Row = tuple[str, ...]

FOUND: Final = ("date", "what", "tags", "ref")
CLAIMS: Final = ("date", "by", "claim", "attribute", "value", "ref")
FACTS: Final = ("fact", "value")

BIGGEST: Final = ("size", "files", "folders", "name", "ref")

DESCRIBE_FOUND: Final = {"depth": 1, "rules": [{"attrs": ["camliContent", "camliContentImage"]}]}
"""What the table of results needs to know: them, and what their content is."""

SNIPPET_INDENT: Final = "    "

KEY_ID_DIGITS: Final = 8
"""Of a key or a ref that is shown to tell signers apart, not to be copied."""


CELL_WIDTH: Final = 64
"""No cell but the last of a row is wider; what is cut off ends in an ellipsis."""


def columns(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The rows as lines of aligned columns, two blanks apart, none at the end.

    The last column is never cut, so that refs can be copied. What is not printable is shown as
    U+FFFD: stored names must not command the terminal.
    """
    from rich.cells import cell_len, set_cell_size

    table = [[_printable(cell) for cell in row] for row in rows]
    for row in table:
        for at, cell in enumerate(row[:-1]):
            if cell_len(cell) > CELL_WIDTH:
                row[at] = set_cell_size(cell, CELL_WIDTH - 1) + "…"
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (set_cell_size(cell, width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def found_lines(answer: Mapping[str, object]) -> Iterator[str]:
    """A table of FOUND, below each result the piece of text in which something was found."""
    head, *lines = columns([FOUND, *found_rows(answer)])
    yield head
    snippets = answer.get("snippets")
    for blob, line in zip(_rows(answer, "blobs"), lines, strict=True):
        yield line
        pieces = snippets.get(blob.get("blob")) if isinstance(snippets, dict) else None
        if isinstance(pieces, list):
            yield SNIPPET_INDENT + snippet(list(map(str, pieces)))


def snippet(pieces: Sequence[str]) -> str:
    """A piece of text on one line; every second part, which was looked for, in bold."""
    from click import style

    plain = (_printable(re.sub(r"\s+", " ", piece)) for piece in pieces)
    parts = [style(text, bold=True) if at % 2 else text for at, text in enumerate(plain)]
    return "".join(parts).strip()


def found_rows(answer: Mapping[str, object]) -> Iterator[Row]:
    """The rows of FOUND of a described query answer, in its order.

    date: of the file, else of the last claim, to the minute. what: title, else the name of the
    file, else what kind of blob it is.
    """
    meta = _table(_table(answer, "description"), "meta")
    for blob in _rows(answer, "blobs"):
        ref = str(blob.get("blob"))
        entry = _table(meta, ref)
        permanode = _table(entry, "permanode")
        attributes = _table(permanode, "attr")
        content = _table(meta, _first(attributes, "camliContent"))
        file = _table(content, "file") or _table(content, "dir") or _table(entry, "file")
        name = _first(attributes, "title") or str(entry.get("path") or file.get("fileName", ""))
        moment = (
            file.get("dated")
            or file.get("time")
            or file.get("modTime")
            or permanode.get("modtime")
            or ""
        )
        kind = str(entry.get("camliType") or "data")
        yield _minute(moment), name or f"({kind})", ", ".join(_texts(attributes, "tag")), ref


def big_rows(answer: Mapping[str, object]) -> Iterator[Row]:
    """The rows of BIGGEST of a query answer that is described with sizes, in its order."""
    meta = _table(_table(answer, "description"), "meta")
    for blob in _rows(answer, "blobs"):
        ref = str(blob.get("blob"))
        entry = _table(meta, ref)
        tree = _table(entry, "tree")
        counts = (str(tree.get(name, "")) for name in ("files", "dirs"))
        name = str(entry.get("path") or _table(entry, "dir").get("fileName", ""))
        yield _megabytes(tree.get("size")), *counts, name, ref


def _megabytes(size: object) -> str:
    return f"{size / 1e6:.1f} MB" if isinstance(size, int) else ""


def claim_rows(answer: Mapping[str, object]) -> Iterator[Row]:
    """The rows of CLAIMS of a claims answer, in its order."""
    for claim in _rows(answer, "claims"):
        signer = str(claim.get("signer", "")).rpartition("-")[2][:KEY_ID_DIGITS]
        values = (str(claim.get(name, "")) for name in ("type", "attr", "value", "blobref"))
        yield _minute(claim.get("date", "")), signer, *values


def fact_rows(answer: Mapping[str, object], refs: Iterable[str]) -> Iterator[Row]:
    """One pair for each fact of the blobs asked for, then of those that came along.

    The name is empty where the line goes on about the same; nested names are joined by a blank.
    """
    meta = _table(answer, "meta")
    for ref in dict.fromkeys([*refs, *meta]):
        yield "blobRef", str(ref)
        known = _table(meta, ref)
        yield from _facts("  ", known or {"": "not known to the index"}, without=("blobRef",))


def _facts(indent: str, table: Mapping[str, object], without: Sequence[str] = ()) -> Iterator[Row]:
    for name, value in table.items():
        if name in without:
            continue
        if isinstance(value, dict):
            yield f"{indent}{name}", ""
            yield from _facts(indent + "  ", value)
        elif isinstance(value, list):
            for number, each in enumerate(value):
                yield "" if number else f"{indent}{name}", str(each)
        else:
            yield f"{indent}{name}", str(value)


def _minute(moment: object) -> str:
    return str(moment)[:16].replace("T", " ")


def _table(answer: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}


def _rows(answer: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    value = answer.get(name)
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _texts(attributes: Mapping[str, object], name: str) -> list[str]:
    value = attributes.get(name)
    return [str(text) for text in value] if isinstance(value, list) else []


def _first(attributes: Mapping[str, object], name: str) -> str:
    return next(iter(_texts(attributes, name)), "")
