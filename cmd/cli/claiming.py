"""`pk-put permanode`, `attr`, `delete`, `share`, `rawobj`: what is signed."""

import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from ..blob import Ref, parse_ref
from ..clients.authoring import share_url
from ..errors import Invalid
from ..schema import claims
from .common import Command, Session, json_flag, switch
from .opening import open_client
from .permanodes import word_flags, words


@click.command("permanode", cls=Command, short_help="Make a permanode.")
@word_flags
@click.option("--key", metavar="K", default="", help="The same key gives the same permanode.")
@click.option(
    "--sigtime", metavar="TIME", default="", help='Date of a -key permanode: "2026-11-21 08:30:00".'
)
@json_flag
@click.pass_obj
def put_permanode(session: Session, title: str, tag: str, key: str, sigtime: str) -> None:
    """Make a permanode: a lasting name for what changes. Print its ref, then its claims."""
    if bool(key) != bool(sigtime):
        raise click.UsageError("-key and -sigtime go together")
    at_ns = _instant(sigtime) if sigtime else 0
    with open_client(session) as client:
        permanode, refs = client.author.permanode(words(title, tag), key=key, at_ns=at_ns)
    session.output.result(permanode, permanode=permanode)
    for ref in refs:
        session.output.result(ref, claim=ref)


def _instant(text: str) -> int:
    try:
        instant = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        raise click.UsageError(f'-sigtime {text!r}: want "YYYY-MM-DD HH:MM:SS"') from None
    return int(instant.timestamp()) * 1_000_000_000


@click.command("attr", cls=Command, short_help="Change an attribute of a permanode.")
@click.argument("words", nargs=-1, metavar="<permanode> <name> <value>")
@switch("--add", help="Keep the values that are there.")
@switch("--del", "delete", help="Take the value away; without a value, all of them.")
@json_flag
@click.pass_obj
def put_attribute(session: Session, words: Sequence[str], add: bool, delete: bool) -> None:
    """Set an attribute of a permanode; print the claim."""
    if add and delete:
        raise click.UsageError("-add and -del exclude each other")
    if len(words) != 3 and not (delete and len(words) == 2):
        raise click.UsageError("Attr takes 3 args: <permanode> <attr> <value>")
    permanode = parse_ref(words[0])
    if permanode is None:
        raise Invalid("parse", f"blobref {words[0]!r}")
    if not words[1]:
        raise click.UsageError("an attribute has a name")
    value = words[2] if len(words) == 3 else ""
    if delete:
        members = claims.del_attribute(permanode, words[1], value)
    else:
        make = claims.add_attribute if add else claims.set_attribute
        members = make(permanode, words[1], value)
    _publish(session, [members])


def _publish(session: Session, members: Sequence[claims.Members]) -> list[Ref]:
    with open_client(session) as client:
        refs = client.author.publish(members)
    for ref in refs:
        session.output.result(ref, claim=ref)
    return refs


@click.command("delete", cls=Command, short_help="Delete permanodes or claims.")
@click.argument("refs", nargs=-1, metavar="<blobref>...")
@json_flag
@click.pass_obj
def put_delete(session: Session, refs: Sequence[str]) -> None:
    """Delete permanodes or claims by new claims; print those. Deleting them takes it back."""
    if not refs:
        raise click.UsageError("Need at least one blob to delete.")
    targets = []
    for text in refs:
        target = parse_ref(text)
        if target is None:
            raise click.UsageError(f"invalid blobref {text!r}")
        targets.append(target)
    _publish(session, [claims.delete(target) for target in targets])


@click.command("share", cls=Command, short_help="Make a link that gives access.")
@click.argument("ref", default="", metavar="[<blobref>]")
@switch("--transitive", help="Give access to all that the blob refers to, too.")
@click.option("--duration", metavar="D", default="", help="How long it holds: 30m, 12h, 1h30m.")
@click.option("--search", metavar="JSON", default="", help="Share what a search finds instead.")
@json_flag
@click.pass_obj
def put_share(session: Session, ref: str, transitive: bool, duration: str, search: str) -> None:
    """Share a file or directory: print the claim, and the link to hand out.

    \b
    Example: pk-put share -transitive -duration=48h sha224-…
    """
    if bool(ref) == bool(search):
        raise click.UsageError("want either a blobref or -search")
    expires_ns = time.time_ns() + duration_ns(duration) if duration else None
    if search:
        members = claims.share_search(
            _search_object(search), transitive=transitive, expires_ns=expires_ns
        )
    else:
        target = parse_ref(ref)
        if target is None:
            raise click.UsageError("invalid blobref")
        members = claims.share(target, transitive=transitive, expires_ns=expires_ns)
    with open_client(session) as client:
        (share,) = client.author.publish([members])
        url = share_url(str(client.transport), client.discovery.share_root, share)
    if session.output.as_json:
        session.output.result("", claim=share, url=url)
        return
    session.output.result(share)
    if url:
        session.output.result(url)
    else:
        session.output.note("the server has no share handler: the claim gives no access there")


def _search_object(text: str) -> dict[str, object]:
    try:
        search = json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"-search is not JSON: {error}") from None
    if not isinstance(search, dict):
        raise click.UsageError("-search: want a JSON object")
    return search


UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
}
_PIECE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)


def duration_ns(text: str) -> int:
    """A length of time as Go writes it, `1h30m` or `1.5h`, in nanoseconds."""
    total, place = 0, 0
    while place < len(text):
        match = _PIECE.match(text, place)
        if match is None:
            raise click.UsageError(f"-duration {text!r}: want something like 30m or 1h30m")
        total += round(float(match[1]) * UNITS_NS[match[2]])
        place = match.end()
    return total


@click.command("rawobj", cls=Command, short_help="Store a JSON object of your own making.")
@click.option("--vals", metavar="K=V|K=V", default="", help="The members of the object.")
@switch("--signed", default=True, help="Sign it (the default); -signed=false does not.")
@json_flag
@click.pass_obj
def put_rawobj(session: Session, vals: str, signed: bool) -> None:
    """Store a JSON object with these members; print its ref."""
    from ..schema.text import encode

    if not vals:
        raise click.UsageError("No values given.")
    members = _members(vals)
    with open_client(session) as client:
        if signed:
            kind = members.get("camliType")
            if kind not in ("claim", "permanode"):
                raise Invalid(
                    "sign", f"camliType {kind!r}", "only claims and permanodes are signed"
                )
            (ref,) = client.author.publish([members])
        else:
            ref = client.put_blob(encode(members))
    session.output.result(ref, ref=ref)


def _members(vals: str) -> dict[str, object]:
    members: dict[str, object] = {}
    for pair in vals.split("|"):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"-vals: {pair!r} is not name=value")
        members[name] = value
    if "camliVersion" in members:
        if members["camliVersion"] != "1":
            raise click.UsageError("-vals: camliVersion can only be 1")
        members["camliVersion"] = 1
    return members
