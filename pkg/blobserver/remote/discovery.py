"""What a server says of itself: its prefixes, its storage generation, what it can do."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from ...errors import Corrupt, Forbidden
from ..storage import Generation
from .transport import Response, Transport, status_error

MEDIA_TYPE = "text/x-camli-configuration"
MAX_BYTES = 1024 * 1024
FEATURES_HEADER = "X-Peatkeep"
MULTI_GET = "fetch-blobs"
STREAM = "stream-1"


class Discovery(NamedTuple):
    """The discovery document. Prefixes are "" where the server has no such thing.

    `features` are the words of the header by which a peatkeep server names its additions;
    `document` is the JSON object as received, `text` its bytes.
    """

    document: Mapping[str, object]
    text: bytes = b""
    features: frozenset[str] = frozenset()

    def string(self, name: str) -> str:
        value = self.document.get(name)
        return value if isinstance(value, str) else ""

    @property
    def blob_root(self) -> str:
        return self.string("blobRoot")

    @property
    def search_root(self) -> str:
        return self.string("searchRoot")

    @property
    def share_root(self) -> str:
        return self.string("shareRoot")

    @property
    def help_root(self) -> str:
        return self.string("helpRoot")

    @property
    def download_helper(self) -> str:
        return self.string("downloadHelper")

    @property
    def has_sha1_index(self) -> bool:
        return self.document.get("hasLegacySHA1Index") is True

    @property
    def has_multi_get(self) -> bool:
        return MULTI_GET in self.features

    @property
    def has_stream(self) -> bool:
        """Whether there is a stream at `camli/stream` below the blobs (../STREAM.md)."""
        return STREAM in self.features

    @property
    def signing(self) -> Mapping[str, object]:
        value = self.document.get("signing")
        return value if isinstance(value, dict) else {}

    @property
    def generation(self) -> Generation | None:
        """The storage generation, or None where the server names none."""
        token = self.string("storageGeneration")
        if not token:
            return None
        try:
            initialised = datetime.fromisoformat(self.string("storageInitTime"))
        except ValueError:
            initialised = datetime.fromtimestamp(0, UTC)
        if initialised.tzinfo is None:
            initialised = initialised.replace(tzinfo=UTC)
        return Generation(initialised, token)


def discover(transport: Transport) -> Discovery:
    """Ask the server what it has. Raises Unavailable, Forbidden, Corrupt (not such a server)."""
    path = transport.address.path or "/"
    response = transport.request(
        "GET", path, headers={"Accept": MEDIA_TYPE}, counted=True, max_bytes=MAX_BYTES
    )
    if response.status != 200:
        raise status_error("discover", "server", transport, response)
    return parse(transport, response)


def parse(transport: Transport, response: Response) -> Discovery:
    media_type = (response.headers.get("Content-Type") or "").partition(";")[0].strip()
    if not response.body and media_type != "text/javascript":
        raise Forbidden("discover", transport, "it tells strangers nothing: credentials needed")
    try:
        document = json.loads(response.body)
    except ValueError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("blobRoot"), str):
        raise Corrupt("discover", transport, "the answer is no discovery document")
    words = (response.headers.get(FEATURES_HEADER) or "").replace(",", " ").split()
    return Discovery(document, response.body, frozenset(words))
