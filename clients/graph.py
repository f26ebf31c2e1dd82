"""A graph of blobs and what they refer to, in the language of Graphviz."""

from collections.abc import Iterator, Sequence

from ..blob import Fetcher, Ref
from ..schema.parse import Schema, parse_object

COLOURS = {
    "file": "#a0a0ff",
    "bytes": "#ffffa0",
    "directory": "#a0ffa0",
    "static-set": "#ffa0a0",
}
"""Fill colours of what is schema; other blobs have none."""


def graph_lines(blobs: Fetcher, refs: Sequence[Ref]) -> Iterator[str]:
    """Yield the lines of the graph of these blobs. Raises NotFound."""
    yield "digraph G {"
    yield " node [fontsize=10,fontname=Arial]"
    yield " edge [fontsize=10,fontname=Arial]"
    yield ""
    for ref in dict.fromkeys(refs):
        schema = parse_object(blobs.fetch(ref))
        kind = schema.type if schema is not None else ""
        label = f"{ref.hex_digest[:7]}" + (f"\\n{kind}" if kind else "")
        colour = COLOURS.get(kind)
        style = f',style=filled,fillcolor="{colour}"' if colour else ""
        yield f'  {_identifier(ref)} [label="{label}"{style}]'
        if schema is not None and schema.type in ("file", "bytes"):
            yield from _edges(ref, schema)
    yield "}"


def _edges(ref: Ref, schema: Schema) -> Iterator[str]:
    offset = 0
    for part in schema.parts:
        below = part.bytes_ref or part.blob_ref
        if below is not None:
            yield (
                f"  {_identifier(ref)} -> {_identifier(below)}"
                f' [label="offset={offset}, size={part.size}"]'
            )
        offset += part.size


def _identifier(ref: Ref) -> str:
    return ref.replace("-", "_")
