"""Beginnings of refs."""

import re

from ..blob import Ref

_REF_PREFIX = re.compile(r"[a-z0-9]+-[0-9a-f]+", re.ASCII)


def is_ref_prefix(text: str) -> bool:
    """Whether a ref could begin so; a hash name without a digit begins none."""
    return _REF_PREFIX.fullmatch(text) is not None


def has_prefix(blob: Ref, prefix: str) -> bool:
    return blob.startswith(prefix) and is_ref_prefix(prefix)
