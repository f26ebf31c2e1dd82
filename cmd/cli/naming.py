"""`pk named-search-get` and `pk named-search-set`: searches by name.

A named search is a permanode whose `camliNamedSearch` is the name and whose `camliContent` is a
blob with the text of the search.
"""

import json
import os
import time

import click

from ..blob import Ref, parse_ref
from ..blobserver.receive import receive, receive_many
from ..blobserver.remote import Remote
from ..clients.config import read_config
from ..errors import Corrupt, NotFound
from ..schema.claims import random_permanode, set_attribute
from ..schema.signing import Signer
from .about import ring_file, signing_key
from .common import Command, Session, json_flag, server_flag
from .connection import Connection
from .searching import compact

NO_TIME = "0001-01-01T00:00:00Z"
NAME = "camliNamedSearch"


class NamedSearch:
    """The permanode of a named search, and the blob that holds the text, if any."""

    def __init__(self, permanode: Ref, content: Ref | None) -> None:
        self.permanode = permanode
        self.content = content


def find(connection: Connection, name: str) -> NamedSearch | None:
    """The search of this name, the latest where there are several."""
    constraint = {"permanode": {"at": NO_TIME, "attr": NAME, "value": name}}
    describe = {"blobref": None, "at": None}
    request = {"constraint": constraint, "around": None, "describe": describe}
    answer = connection.search_object("query", body=compact(request))
    try:
        found = answer.get("blobs") or []
        if not found:
            return None
        permanode = Ref(found[0]["blob"])  # type: ignore[index]
        meta = answer["description"]["meta"]  # type: ignore[index]
        values = meta[permanode]["permanode"]["attr"].get("camliContent") or [None]
    except (AttributeError, KeyError, IndexError, TypeError):
        raise Corrupt("query", name, "the answer lacks the description of a result") from None
    return NamedSearch(permanode, parse_ref(values[-1]))


@click.command(cls=Command)
@click.argument("name")
@server_flag
@json_flag
@click.pass_obj
def named_search_get(session: Session, name: str) -> None:
    """Show what a named search stands for."""
    connection = Connection(session)
    search = find(connection, name)
    if search is None or search.content is None:
        raise NotFound("find", f"named search {name!r}", "there is none of this name")
    text = connection.storage().fetch(search.content).decode("utf-8", "replace")
    members = {
        "named": name,
        "substitute": text,
        "permaRef": search.permanode,
        "substRef": None,
    }
    session.output.result(json.dumps(members, indent=2), **members)


@click.command(cls=Command)
@click.argument("name")
@click.argument("expression")
@server_flag
@json_flag
@click.pass_obj
def named_search_set(session: Session, name: str, expression: str) -> None:
    """Let a name stand for a search expression, in place of what it stood for."""
    config = read_config(os.environ)
    signer = Signer(signing_key(ring_file(session, config), config.identity))
    connection = Connection(session)
    storage = connection.storage()
    text = expression.encode()
    content = Ref.of(text)
    if not list(storage.stat([content])):
        receive(storage, content, text)
    search = find(connection, name)
    permanode = search.permanode if search else new_permanode(storage, signer, name)
    claim(storage, signer, permanode, "camliContent", content)
    members = {"permaRef": permanode, "substRef": content}
    session.output.result(json.dumps(members, indent=2), **members)


def new_permanode(storage: Remote, signer: Signer, name: str) -> Ref:
    """A permanode with the two attributes by which a named search is found and shown."""
    data = signer.sign_members(random_permanode(), time.time_ns())
    permanode = Ref.of(data)
    key = (signer.ref, signer.public_text)
    receive_many(storage, [key, (permanode, data)])
    claim(storage, signer, permanode, NAME, name)
    claim(storage, signer, permanode, "title", f"named:{name}")
    return permanode


def claim(storage: Remote, signer: Signer, permanode: Ref, attribute: str, value: str) -> None:
    members = set_attribute(permanode, attribute, value)
    data = signer.sign_members(members, time.time_ns())
    receive(storage, Ref.of(data), data)
