"""Permanodes for uploaded files, made by the server for clients that cannot sign.

They are the same every time: the permanode is keyed by the file's content, and both blobs are
signed with the time of the file.
"""

import hashlib
from collections.abc import Sequence

from ..blob import Ref, SizedRef
from ..blobserver.receive import receive_many
from ..blobserver.storage import Storage
from ..errors import Corrupt, Invalid, NotFound, StoreError
from ..schema.claims import planned_permanode, set_attribute
from ..schema.filereader import FileReader
from ..schema.parse import parse_object
from ..schema.signing import Signer
from .bridge import Bridge
from .files import json_complaint


class Vivifier:
    """Makes a permanode for each uploaded file blob."""

    def __init__(self, storage: Storage, bridge: Bridge, signer: Signer) -> None:
        self._storage = storage
        self._bridge = bridge
        self._signer = signer

    async def vivify(self, received: Sequence[SizedRef]) -> tuple[list[Ref], list[str]]:
        """The refs that got a permanode, and what went wrong with the others."""
        done: list[Ref] = []
        errors: list[str] = []
        for ref, _ in received:
            try:
                await self._bridge.call(self._make, ref)
                done.append(ref)
            except StoreError as error:
                errors.append(f"Error vivifying blob {ref}: {error.reason or error}\n")
        return done, errors

    def _make(self, ref: Ref) -> None:
        data = self._storage.fetch(ref)
        schema = parse_object(data)
        if schema is None or schema.type != "file":
            reason = "not a file" if schema is not None else json_complaint(data)
            raise Invalid(
                "vivify",
                ref,
                f"Filereader error for blobref {ref}: schema/filereader:"
                f" decoding file schema blob: {reason}",
            )
        at_ns = schema.time_ns("unixMtime")
        if at_ns is None:
            name = schema.file_name.decode("utf-8", "replace")
            raise Invalid("vivify", ref, f"While parsing modtime for file {name}: %!w(<nil>)")
        key = self._whole_ref(ref, FileReader(self._storage, schema))
        permanode = self._signer.sign_members(planned_permanode(key), at_ns)
        claim = set_attribute(Ref.of(permanode), "camliContent", ref)
        signed = self._signer.sign_members(claim, at_ns)
        blobs = [(Ref.of(permanode), permanode), (Ref.of(signed), signed)]
        receive_many(self._storage, blobs)

    def _whole_ref(self, ref: Ref, reader: FileReader) -> Ref:
        digest = hashlib.sha224()
        try:
            for piece in reader.stream(fetch_many=self._storage.fetch_many):
                digest.update(piece)
        except (NotFound, Corrupt) as error:
            raise Invalid("vivify", ref, f"Could not read the file: {error}") from None
        return Ref.from_digest("sha224", digest.digest())
