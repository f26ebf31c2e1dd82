"""The flags and claims of a permanode that what was just stored is given."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..blob import Ref
from .common import Session, switch

if TYPE_CHECKING:
    from ..clients.client import Client

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

SET, ADD = "set-attribute", "add-attribute"


def word_flags(function: Decorated) -> Decorated:
    """-title and -tag."""
    function = click.option("--tag", metavar="A,B", default="", help="Tags of the permanode.")(
        function
    )
    return click.option("--title", metavar="T", default="", help="Title of the permanode.")(
        function
    )


def node_flags(function: Decorated) -> Decorated:
    """-permanode, -title and -tag."""
    return switch("--permanode", help="Make a permanode for it.")(word_flags(function))


def tags_of(text: str) -> list[str]:
    return [tag for tag in text.split(",") if tag]


def words(title: str, tag: str) -> list[tuple[str, str, str]]:
    """The claims that -title and -tag ask for."""
    claims = [(SET, "title", title)] if title else []
    return claims + [(ADD, "tag", each) for each in tags_of(tag)]


def content_permanode(
    session: Session, client: "Client", content: Ref, title: str, tag: str
) -> None:
    """Make a new permanode with this content; print its claims, and itself last."""
    attributes = [(SET, "camliContent", str(content)), *words(title, tag)]
    permanode, claims = client.author.permanode(attributes)
    for ref, (_, name, value) in zip(claims, attributes, strict=True):
        session.output.result(ref, f"claim: {name} = {value}", claim=ref)
    session.output.result(permanode, "permanode", permanode=permanode)
