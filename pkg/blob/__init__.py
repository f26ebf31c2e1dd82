"""Blobs: how they are named, and the small roles that functions ask for."""

from .ref import MAX_BLOB_SIZE as MAX_BLOB_SIZE
from .ref import Ref as Ref
from .ref import SizedRef as SizedRef
from .ref import parse_ref as parse_ref
from .roles import Enumerator as Enumerator
from .roles import Fetcher as Fetcher
from .roles import Receiver as Receiver
from .roles import Statter as Statter
