"""The predicates of search expressions: `tag:x`, `is:image`, `width:100-200`, ..."""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from ..errors import Invalid
from .constraint import (
    CHILD,
    PARENT,
    Constraint,
    FileConstraint,
    FloatConstraint,
    IntConstraint,
    LocationConstraint,
    PermanodeConstraint,
    RelationConstraint,
    StringConstraint,
    TimeConstraint,
    both,
    either,
    negated,
)
from .gotext import parse_float, quote, time_of


class Resolver(Protocol):
    """Knows what names stand for."""

    def named(self, name: str) -> Constraint:
        """The constraint of a named search. Raises Invalid."""

    def places(self, name: str) -> Sequence[LocationConstraint]:
        """The rectangles of a place; none when it is unknown."""


def constraint_of(name: str, arguments: Sequence[str], resolver: Resolver) -> Constraint:
    """What `name:argument:...` stands for. Raises Invalid with the text for the client."""
    fixed = _FIXED.get(":".join([name, *arguments])) if len(arguments) == 1 else None
    if fixed is not None:
        return fixed
    predicate = _PREDICATES.get(name)
    if predicate is None:
        text = ":".join([name, *arguments])
        raise _invalid(f"Unknown search predicate: {quote(text)}")
    if len(arguments) != predicate.arguments_count:
        raise _invalid(
            f"Wrong number of arguments for {quote(name)}, given {len(arguments)},"
            f" expected {predicate.arguments_count}"
        )
    return predicate.build(arguments, resolver)


def _invalid(reason: str) -> Invalid:
    return Invalid("parse", "predicate", reason)


def _content(file: FileConstraint) -> Constraint:
    """Permanodes whose content is such a file."""
    return Constraint(
        permanode=PermanodeConstraint(attr="camliContent", value_in_set=Constraint(file=file))
    )


def _node_type(name: str) -> Constraint:
    return Constraint(permanode=PermanodeConstraint(attr="camliNodeType", value=name))


def _containing(text: str) -> StringConstraint:
    return StringConstraint(contains=text, case_insensitive=True)


def _attribute(attribute: str, value: str) -> Constraint:
    matches = None if value else StringConstraint(empty=True)
    return Constraint(
        permanode=PermanodeConstraint(
            attr=attribute, skip_hidden=True, value=value, value_matches=matches
        )
    )


def _attribute_containing(attribute: str, text: str) -> Constraint:
    return Constraint(
        permanode=PermanodeConstraint(
            attr=attribute, skip_hidden=True, value_matches=_containing(text)
        )
    )


# -- one function for each predicate ------------------------------------------------------------


def _tag(arguments: Sequence[str], _: Resolver) -> Constraint:
    return _attribute("tag", arguments[0])


def _attr(arguments: Sequence[str], _: Resolver) -> Constraint:
    attribute, value = arguments
    if value.startswith("~"):
        return _attribute_containing(attribute, value[1:])
    return _attribute(attribute, value)


def _title(arguments: Sequence[str], _: Resolver) -> Constraint:
    return _attribute_containing("title", arguments[0])


def _ref(arguments: Sequence[str], _: Resolver) -> Constraint:
    return Constraint(blob_ref_prefix=arguments[0])


def _children_of(arguments: Sequence[str], _: Resolver) -> Constraint:
    return _related(PARENT, arguments[0])


def _parent_of(arguments: Sequence[str], _: Resolver) -> Constraint:
    return _related(CHILD, arguments[0])


def _related(relation: str, prefix: str) -> Constraint:
    related = RelationConstraint(relation, any=Constraint(blob_ref_prefix=prefix))
    return Constraint(permanode=PermanodeConstraint(relation=related))


_TIME_TEMPLATE: Final = "0000-01-01T00:00:00Z"


def moment_of(text: str) -> int:
    """A moment, of which only the beginning need be said."""
    return time_of(text + _TIME_TEMPLATE[len(text.encode("utf-8", "replace")) :])


def _before(arguments: Sequence[str], _: Resolver) -> Constraint:
    time = TimeConstraint(before_ns=moment_of(arguments[0]))
    return Constraint(permanode=PermanodeConstraint(time=time))


def _after(arguments: Sequence[str], _: Resolver) -> Constraint:
    time = TimeConstraint(after_ns=moment_of(arguments[0]))
    return Constraint(permanode=PermanodeConstraint(time=time))


_FORMATS: Final = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "png": "image/png",
    "pdf": "application/pdf",
    "flac": "audio/x-flac",
    "html": "text/html",
    "mov": "video/quicktime",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ogg": "application/ogg",
    "txt": "text/plain",
    "wav": "audio/x-wav",
    "webm": "video/webm",
}


def _format(arguments: Sequence[str], _: Resolver) -> Constraint:
    name = arguments[0]
    mime = name if "/" in name else _FORMATS.get(name)
    if mime is None:
        raise _invalid(f"Unknown format: {name}")
    return _content(FileConstraint(mime_type=StringConstraint(equals=mime)))


def _filename(arguments: Sequence[str], _: Resolver) -> Constraint:
    name = arguments[0]
    begins, ends = name.startswith("*"), name.endswith("*") and len(name) > 1
    inner = name[begins : len(name) - ends]
    if "*" in inner:
        raise _invalid("unsupported glob wildcard in filename search predicate")
    if begins and ends:
        test = StringConstraint(contains=inner)
    elif begins:
        test = StringConstraint(has_suffix=inner)
    elif ends:
        test = StringConstraint(has_prefix=inner)
    else:
        test = StringConstraint(equals=inner)
    return _content(FileConstraint(file_name=test))


_RANGE = re.compile(r"([0-9]{0,10})(-?)([0-9]{0,10})", re.ASCII)


def _range(text: str) -> IntConstraint:
    match = _RANGE.fullmatch(text)
    if match is None or not text or (match[3] and not match[2]):
        raise _invalid(
            f"Unable to parse {quote(text)} as range,"
            " wanted something like 480-1024, 480-, -1024 or 1024"
        )
    least = match[1]
    most = match[3] if match[2] else match[1]
    return IntConstraint(int(least or 0), int(most or 0), least == "0", most == "0")


def _width(arguments: Sequence[str], _: Resolver) -> Constraint:
    return _content(FileConstraint(is_image=True, width=_range(arguments[0])))


def _height(arguments: Sequence[str], _: Resolver) -> Constraint:
    return _content(FileConstraint(is_image=True, height=_range(arguments[0])))


def _with(arguments: Sequence[str], _: Resolver) -> Constraint:
    has_given_name, has_family_name = (
        Constraint(
            permanode=PermanodeConstraint(attr=name, value_matches=_containing(arguments[0]))
        )
        for name in ("givenName", "familyName")
    )
    person = both(_node_type("foursquare.com:person"), either(has_given_name, has_family_name))
    return Constraint(permanode=PermanodeConstraint(attr="with", value_in_set=person))


def _rectangle(arguments: Sequence[str], _: Resolver) -> Constraint:
    words = arguments[0].split(",")
    if len(words) != 4:
        raise _invalid(f"got {len(words)} coordinates for location area, expected 4")
    try:
        north, west, south, east = map(parse_float, words)
    except Invalid as error:
        reason = f"could not convert location area coordinate as a float: {error.reason}"
        raise _invalid(reason) from None
    return _within(LocationConstraint(north=north, west=west, east=east, south=south))


def _within(location: LocationConstraint) -> Constraint:
    return Constraint(permanode=PermanodeConstraint(location=location))


def _place(arguments: Sequence[str], resolver: Resolver) -> Constraint:
    rectangles = resolver.places(arguments[0])
    if not rectangles:
        raise _invalid(f"No location found for {quote(arguments[0])}")
    found = _within(rectangles[0])
    for rectangle in rectangles[1:]:
        found = either(found, _within(rectangle))
    return found


def _text(arguments: Sequence[str], _: Resolver) -> Constraint:
    if not any(map(str.isalnum, arguments[0])):
        raise _invalid(f"No word in {quote(arguments[0])}")
    return Constraint(text=arguments[0])


def _named(arguments: Sequence[str], resolver: Resolver) -> Constraint:
    return resolver.named(arguments[0])


class _Predicate(NamedTuple):
    arguments_count: int
    build: Callable[[Sequence[str], Resolver], Constraint]


_PREDICATES: Final = {
    "after": _Predicate(1, _after),
    "attr": _Predicate(2, _attr),
    "before": _Predicate(1, _before),
    "childrenof": _Predicate(1, _children_of),
    "filename": _Predicate(1, _filename),
    "format": _Predicate(1, _format),
    "height": _Predicate(1, _height),
    "loc": _Predicate(1, _place),
    "locrect": _Predicate(1, _rectangle),
    "named": _Predicate(1, _named),
    "parentof": _Predicate(1, _parent_of),
    "ref": _Predicate(1, _ref),
    "tag": _Predicate(1, _tag),
    "text": _Predicate(1, _text),
    "title": _Predicate(1, _title),
    "width": _Predicate(1, _width),
    "with": _Predicate(1, _with),
}

_NOT_EMPTY: Final = StringConstraint(byte_length=IntConstraint(min=1))

_FIXED: Final = {
    "has:location": _within(LocationConstraint(any=True)),
    "is:audio": either(
        _content(FileConstraint(mime_type=StringConstraint(has_prefix="audio/"))),
        _content(FileConstraint(mime_type=StringConstraint(equals="application/ogg"))),
    ),
    "is:checkin": _node_type("foursquare.com:checkin"),
    "is:image": _content(FileConstraint(is_image=True)),
    "is:landscape": _content(
        FileConstraint(is_image=True, width_height_ratio=FloatConstraint(min=1.0))
    ),
    "is:like": _node_type("twitter.com:like"),
    "is:pano": _content(FileConstraint(is_image=True, width_height_ratio=FloatConstraint(min=2.0))),
    "is:portrait": _content(
        FileConstraint(is_image=True, width_height_ratio=FloatConstraint(max=1.0))
    ),
    "is:post": _node_type("twitter.com:tweet"),
    "is:video": _content(FileConstraint(mime_type=StringConstraint(has_prefix="video/"))),
    "is:untagged": negated(
        Constraint(
            permanode=PermanodeConstraint(attr="tag", skip_hidden=True, value_matches=_NOT_EMPTY)
        )
    ),
}
