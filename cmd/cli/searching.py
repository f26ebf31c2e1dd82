"""What the index of a server knows: `pk search`, `pk describe`, `pk claims`."""

import json
import re
import sys
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlencode

import click

from ..blob import Ref, parse_ref
from ..errors import Invalid, Unavailable
from ..schema.times import parse_time
from .common import Command, Session, json_flag, server_flag, switch


def ref_argument(text: str) -> Ref:
    """The ref that an argument is. Raises UsageError."""
    ref = parse_ref(text)
    if ref is None:
        raise click.UsageError(f"invalid blobref {text!r}")
    return ref


def describe_request(
    refs: Iterable[str], depth: int, at: str | None = None, *, more: bool = False
) -> bytes:
    """The body of a describe request, as Perkeep's programs write it.

    more: with what Perkeep's servers do not tell.
    """
    members = {"blobrefs": list(refs), "blobref": None, "depth": depth, "at": at}
    members |= {"sizes": True, "facts": True} if more else {}
    return json.dumps(members, indent="\t").encode()


def show(session: Session, answer: bytes) -> None:
    """Print a JSON answer as it came; as one line with --json."""
    if session.output.as_json:
        session.output.result("", **json.loads(answer))
    else:
        session.output.result(answer.decode("utf-8", "replace").rstrip("\n"))


@click.command(cls=Command)
@click.argument("refs", nargs=-1, required=True)
@click.option("--depth", type=int, default=1, help="How far to follow references.")
@click.option("--at", metavar="TIME", default="", help="As it was then (RFC 3339).")
@server_flag
@json_flag
@click.pass_obj
def describe(session: Session, refs: tuple[str, ...], depth: int, at: str) -> None:
    """Show what the index knows of blobs: a table on a terminal, else JSON."""
    from .connection import Connection

    wanted = [ref_argument(text) for text in refs]
    if at:
        try:
            parse_time(at)
        except Invalid as error:
            raise click.UsageError(str(error)) from None
    body = describe_request(wanted, depth, at or None, more=session.output.is_terminal)
    answer = Connection(session).search("describe", body=body)
    if not session.output.is_terminal:
        show(session, answer)
        return
    from .showing import FACTS, columns, fact_rows

    for line in columns([FACTS, *fact_rows(json.loads(answer), wanted)]):
        session.output.result(line)


@click.command(cls=Command)
@click.argument("permanode")
@click.option("--attr", default="", help="Only claims on this attribute.")
@server_flag
@json_flag
@click.pass_obj
def claims(session: Session, permanode: str, attr: str) -> None:
    """Show the claims on a permanode: a table on a terminal, else JSON."""
    from .connection import Connection

    query = urlencode({"permanode": ref_argument(permanode), "attrFilter": attr})
    answer = Connection(session).search("claims", query)
    if not session.output.is_terminal:
        show(session, answer)
        return
    from .showing import CLAIMS, claim_rows, columns

    for line in columns([CLAIMS, *claim_rows(json.loads(answer))]):
        session.output.result(line)


@click.command(cls=Command)
@click.argument("query")
@click.option("--limit", type=int, default=0, help="At most so many results.")
@click.option("--continue", "token", default="", help="Go on from this token of a former search.")
@switch("--describe", help="Describe the results, too.")
@switch("--files", help="Words that files have in them or in their names, also files in folders.")
@switch("--rawquery", help="The query is a whole SearchQuery in JSON.")
@switch("--1", "bare", help="Print refs only, one a line.")
@server_flag
@json_flag
@click.pass_obj
def search(
    session: Session,
    query: str,
    limit: int,
    token: str,
    describe: bool,
    files: bool,
    rawquery: bool,
    bare: bool,
) -> None:
    """Search by an expression (tag:x), or by a constraint in JSON; `-` reads it from stdin.

    On a terminal the results are a table, elsewhere the server's JSON. `pk searchdoc` tells
    what an expression can say. Examples:

    \b
      pk search tag:letters
      pk search 'is:image after:2024-05 loc:Oslo'
      pk search --limit 5 'text:"water bill" sort:-mod'
    """
    from .connection import Connection
    from .showing import DESCRIBE_FOUND, found_lines

    text = (sys.stdin.read() if query == "-" else query).strip()
    if not text:
        raise click.UsageError("the query is empty")
    if rawquery and files:
        raise click.UsageError("--rawquery and --files exclude each other")
    # Only for servers that keep texts: Perkeep's refuse members that they do not know.
    looks_at_texts = files or (not rawquery and _TEXT.search(text) is not None)
    if files:
        request: dict[str, object] = {"constraint": {"file": {}, "text": text}}
    else:
        request = raw_query(text) if rawquery else search_query(text)
    request |= {"limit": limit} if limit else {}
    request |= {"continue": token} if token else {}
    request |= {"describe": {"blobref": None, "at": None}} if describe else {}
    as_table = session.output.is_terminal and not (bare or describe or rawquery)
    request |= {"describe": DESCRIBE_FOUND | ({"paths": True} if files else {})} if as_table else {}
    request |= {"snippets": True} if looks_at_texts and not bare else {}
    try:
        answer = Connection(session).search("query", body=compact(request))
    except Unavailable as error:
        raise refusal(error, text) or error from None
    if bare:
        for found in json.loads(answer).get("blobs") or []:
            session.output.result(found["blob"], blob=found["blob"])
    elif as_table:
        results = json.loads(answer)
        if not results.get("blobs"):
            session.output.note("nothing found")
            return
        for line in found_lines(results):
            session.output.result(line)
        if results.get("continue"):
            session.output.note(f"more: the same with --continue {results['continue']}")
    else:
        show(session, answer)


_TEXT = re.compile(r'\btext"?\s*:')
"""Of an expression or a constraint that looks for words."""

REFUSED: Final = "Invalid SearchQuery: "


def refusal(error: Unavailable, text: str) -> Invalid | None:
    """What a server that refused the query means; None: it failed otherwise.

    The protocol has status 500 for both.
    """
    _, marker, reason = str(error).partition(REFUSED)
    if not marker:
        return None
    reason = reason.partition(" See: http")[0]
    hint = "`pk searchdoc` tells what an expression can say"
    if "No support for literals" in reason:
        hint = f'a word alone says not where it stands: text:"{text}", title:"{text}"; {hint}'
    return Invalid("search", text, f"{reason}. {hint}")


@click.command(cls=Command)
@click.option("--limit", type=click.IntRange(1), default=20, help="At most so many.")
@server_flag
@json_flag
@click.pass_obj
def biggest(session: Session, limit: int) -> None:
    """List the directories with the most bytes below them, versions of one folder each alone."""
    from .connection import Connection
    from .showing import BIGGEST, big_rows, columns

    request = {
        "constraint": {"dir": {}},
        "sort": "-size",
        "limit": limit,
        "describe": {"depth": 1, "sizes": True, "paths": True},
    }
    answer = Connection(session).search("query", body=compact(request))
    if session.output.is_terminal:
        for line in columns([BIGGEST, *big_rows(json.loads(answer))]):
            session.output.result(line)
    else:
        show(session, answer)


@click.command(cls=Command)
@json_flag
@click.pass_obj
def searchdoc(session: Session) -> None:
    """Tell what a search expression can say."""
    from ..search.manual import manual

    text = manual()
    session.output.result(text, text=text)


@click.command(cls=Command)
@click.argument("beginning", default="")
@click.option("--attr", default="", help="Values of this attribute; else attributes.")
@click.option("--limit", type=int, default=0, help="At most so many.")
@server_flag
@json_flag
@click.pass_obj
def complete(session: Session, beginning: str, attr: str, limit: int) -> None:
    """List attributes, or the values of one, that begin so; the most used first."""
    from .connection import Connection

    query = urlencode({"attr": attr, "prefix": beginning, "max": limit})
    answer = Connection(session).search("complete", query)
    for found in json.loads(answer)["completions"]:
        session.output.result(found["text"], **found)


def search_query(text: str) -> dict[str, object]:
    """A query for an expression, or for a constraint, which begins with a brace."""
    if not text.startswith("{"):
        return {"expression": text, "around": None}
    return {"constraint": parsed(text), "around": None}


def raw_query(text: str) -> dict[str, object]:
    members = parsed(text)
    if not isinstance(members, dict):
        raise Invalid("parse", "query", "not a JSON object")
    return {"around": None, **members}


def parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Invalid("parse", "query", f"not JSON: {error}") from None


def compact(request: object) -> bytes:
    return json.dumps(request, separators=(",", ":"), ensure_ascii=False).encode()
