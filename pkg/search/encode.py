"""Constraints as JSON objects, and the table of their fields that reading uses as well."""

from enum import Enum, auto
from typing import Any, Final, NamedTuple

from ..schema.times import format_time
from .constraint import (
    Constraint,
    DirConstraint,
    FileConstraint,
    FloatConstraint,
    IntConstraint,
    LocationConstraint,
    LogicalConstraint,
    MediaTagConstraint,
    PermanodeConstraint,
    RelationConstraint,
    StringConstraint,
    TimeConstraint,
)

Json = dict[str, Any]


class Form(Enum):
    """How a plain value stands in JSON. PRESENT: an object whose content does not matter.

    BOUND: a time that may be an empty text, as claims have it.
    """

    BOOLEAN = auto()
    INTEGER = auto()
    NUMBER = auto()
    TEXT = auto()
    REF = auto()
    TIME = auto()
    BOUND = auto()
    PRESENT = auto()


Fields = dict[str, tuple[str, "Form | type"]]
"""Name in JSON to name in the record, and the form of its value or the record that it is."""


def _range(number: Form) -> Fields:
    return {
        "min": ("min", number),
        "max": ("max", number),
        "zeroMin": ("zero_min", Form.BOOLEAN),
        "zeroMax": ("zero_max", Form.BOOLEAN),
    }


FIELDS: Final[dict[type, Fields]] = {
    Constraint: {
        "logical": ("logical", LogicalConstraint),
        "anything": ("anything", Form.BOOLEAN),
        "camliType": ("camli_type", Form.TEXT),
        "anyCamliType": ("any_camli_type", Form.BOOLEAN),
        "blobRefPrefix": ("blob_ref_prefix", Form.TEXT),
        "file": ("file", FileConstraint),
        "dir": ("dir", DirConstraint),
        "claim": ("claim", Form.PRESENT),
        "blobSize": ("blob_size", IntConstraint),
        "permanode": ("permanode", PermanodeConstraint),
        "text": ("text", Form.TEXT),
    },
    LogicalConstraint: {
        "op": ("op", Form.TEXT),
        "a": ("a", Constraint),
        "b": ("b", Constraint),
    },
    IntConstraint: {**_range(Form.INTEGER), "equals": ("equals", Form.INTEGER)},
    FloatConstraint: _range(Form.NUMBER),
    StringConstraint: {
        "empty": ("empty", Form.BOOLEAN),
        "equals": ("equals", Form.TEXT),
        "contains": ("contains", Form.TEXT),
        "hasPrefix": ("has_prefix", Form.TEXT),
        "hasSuffix": ("has_suffix", Form.TEXT),
        "byteLength": ("byte_length", IntConstraint),
        "caseInsensitive": ("case_insensitive", Form.BOOLEAN),
        "regexp": ("regexp", Form.TEXT),
    },
    TimeConstraint: {
        "before": ("before_ns", Form.BOUND),
        "after": ("after_ns", Form.BOUND),
        "inLast": ("in_last_ns", Form.INTEGER),
    },
    LocationConstraint: {
        "Any": ("any", Form.BOOLEAN),
        "North": ("north", Form.NUMBER),
        "West": ("west", Form.NUMBER),
        "East": ("east", Form.NUMBER),
        "South": ("south", Form.NUMBER),
    },
    MediaTagConstraint: {
        "tag": ("tag", Form.TEXT),
        "string": ("string", StringConstraint),
        "int": ("int", IntConstraint),
    },
    DirConstraint: {
        "fileName": ("file_name", StringConstraint),
        "blobRefPrefix": ("blob_ref_prefix", Form.TEXT),
        "parentDir": ("parent_dir", DirConstraint),
        "topFileCount": ("top_file_count", IntConstraint),
        "contains": ("contains", Constraint),
        "recursiveContains": ("recursive_contains", Constraint),
    },
    FileConstraint: {
        "fileSize": ("file_size", IntConstraint),
        "fileName": ("file_name", StringConstraint),
        "mimeType": ("mime_type", StringConstraint),
        "time": ("time", TimeConstraint),
        "modTime": ("mod_time", TimeConstraint),
        "wholeRef": ("whole_ref", Form.REF),
        "parentDir": ("parent_dir", DirConstraint),
        "isImage": ("is_image", Form.BOOLEAN),
        "width": ("width", IntConstraint),
        "height": ("height", IntConstraint),
        "widthHeightRation": ("width_height_ratio", FloatConstraint),
        "location": ("location", LocationConstraint),
        "mediaTag": ("media_tag", MediaTagConstraint),
        "exif": ("exif", Form.PRESENT),
    },
    RelationConstraint: {
        "Relation": ("relation", Form.TEXT),
        "EdgeType": ("edge_type", Form.TEXT),
        "Any": ("any", Constraint),
        "All": ("all", Constraint),
    },
    PermanodeConstraint: {
        "at": ("at_ns", Form.TIME),
        "modTime": ("mod_time", TimeConstraint),
        "time": ("time", TimeConstraint),
        "attr": ("attr", Form.TEXT),
        "skipHidden": ("skip_hidden", Form.BOOLEAN),
        "numValue": ("num_value", IntConstraint),
        "valueAllMatch": ("value_all_match", Form.BOOLEAN),
        "value": ("value", Form.TEXT),
        "valueMatches": ("value_matches", StringConstraint),
        "valueMatchesInt": ("value_matches_int", IntConstraint),
        "valueMatchesFloat": ("value_matches_float", FloatConstraint),
        "valueInSet": ("value_in_set", Constraint),
        "relation": ("relation", RelationConstraint),
        "location": ("location", LocationConstraint),
    },
}


def encode(record: NamedTuple) -> Json:
    """The JSON object of a constraint, or of a record in one; what is not set is left out."""
    found: Json = {}
    for name, (attribute, form) in FIELDS[type(record)].items():
        value = getattr(record, attribute)
        if value is None or value is False or value == "" or _is_zero(value, attribute):
            continue
        if form in (Form.TIME, Form.BOUND):
            found[name] = format_time(value)
        elif form is Form.PRESENT:
            found[name] = {}
        else:
            found[name] = value if isinstance(form, Form) else encode(value)
    return found


def _is_zero(value: object, attribute: str) -> bool:
    """0 is a number that is not set, except as a moment and in `equals`."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value == 0
        and attribute not in ("at_ns", "before_ns", "after_ns", "equals")
    )
