"""What can be said in an expression, for people: `pk searchdoc` prints it."""

from typing import Final

FORMS: Final = (
    ("tag:V", "has this tag; tag: alone: an empty one"),
    ("attr:A:V", "attribute A is V"),
    ("attr:A:~S", "attribute A contains S, in any case"),
    ("title:S", "the title contains S, in any case"),
    ("text:W", "the words W stand next to each other in its texts or its file's; W* begins so"),
    ("ref:P", "its ref begins with P"),
    ("childrenof:P  parentof:P", "members of what begins with P; what has those as members"),
    ("before:T  after:T", "its time; the beginning of one will do: before:2012-05"),
    ("format:F", "its file is jpg, png, gif, pdf, mp4, mov, webm, mp3, flac, ogg, wav, txt, html,"),
    ("", "or of a MIME type"),
    ("filename:G", "its file's name: name, name*, *name or *name*"),
    ("is:image  is:video  is:audio", "its file is a picture, a film, sound"),
    ("width:R  height:R", "of the picture: 480, 480-1024, 480- or -1024"),
    ("is:landscape  is:portrait  is:pano", "the shape of the picture"),
    ("is:post  is:like  is:checkin", "what it is"),
    ("is:untagged", "has no tag"),
    ("has:location", "its place is known"),
    ("locrect:N,W,S,E", "lies in a rectangle of degrees"),
    ("loc:PLACE", "lies where other things lie that are called so, or are in a city called so"),
    ("with:S", "was there with somebody called S"),
    ("named:N", "matches the search of this name (pk named-search-set)"),
)
"""Each predicate as it is written, and what of a permanode it asks for."""

SETTINGS: Final = (
    ("sort:ORDER", "-created (newest first), created, -mod (changed last first), blobref, map"),
    ("at:T", "everything as it was claimed by then"),
)
"""What holds for the whole search."""

GRAMMAR: Final = (
    ("A B, A and B", "both"),
    ("A or B", "either; `and` binds tighter"),
    ("-A", "not A"),
    ("( ... )", "grouping"),
    ('"..."', 'an argument with blanks or colons in it; \\" and \\\\ inside'),
)


def manual() -> str:
    """The whole as text of at most 100 columns."""
    sections = (
        ("Predicates", FORMS),
        ("For the whole search, outside parentheses", SETTINGS),
        ("Together", GRAMMAR),
    )
    return "\n\n".join(f"{title}\n\n{_table(rows)}" for title, rows in sections)


def _table(rows: tuple[tuple[str, str], ...]) -> str:
    lines = []
    for form, meaning in rows:
        lines += (
            [f"  {form:<18} {meaning}"] if len(form) <= 18 else [f"  {form}", f"{'':21}{meaning}"]
        )
    return "\n".join(lines)
