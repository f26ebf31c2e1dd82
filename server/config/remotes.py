"""High level: stores in the cloud, as the primary storage or fed from it by a sync handler."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from .high_keys import refuse

if TYPE_CHECKING:
    from .high_level import Conversion

_S3_FORM = "access_key_id:secret_access_key:bucket[/optional/dir][:hostname]"
_B2_FORM = "account_id:application_key:bucket[/optional/dir][:hostname]"
_GOOGLE_FORM = (
    'expected "googlecloudstorage" field to be of form'
    ' "client_id:client_secret:refresh_token:bucket[/dir/]" or ":bucketname[/dir/]"'
)


def add_remotes(conversion: Conversion) -> None:
    """Mount what the keys s3, b2, googlecloudstorage and googledrive ask for, in this order."""
    if conversion.text("s3"):
        _add(conversion, "s3", "storage-s3", s3_args(conversion.text("s3")))
    if conversion.text("b2"):
        _add(conversion, "b2", "storage-s3", s3_args(conversion.text("b2"), "b2", _B2_FORM))
    if conversion.text("googlecloudstorage"):
        args = _google_args(conversion.text("googlecloudstorage"))
        _add(conversion, "googlecloudstorage", "storage-googlecloudstorage", args)
    if conversion.text("googledrive"):
        args = _drive_args(conversion.text("googledrive"))
        _add(conversion, "googledrive", "storage-googledrive", args)


def _add(conversion: Conversion, name: str, handler: str, args: dict[str, object]) -> None:
    """Mount one store. The first storage of all is `/bs/`; others are copies, with a sync."""
    is_primary = "/bs/" not in conversion.prefixes
    prefix = "/bs/" if is_primary else f"/sto-{name}/"
    if conversion.packs_related and "bucket" in args:
        # Loose blobs and packs share the bucket, below folders of their own.
        stem = "/bs" if is_primary else f"/sto-{name}-bs"
        for part in ("loose", "packed"):
            bucket = posixpath.join(str(args["bucket"]), part)
            conversion.add(f"{stem}-{part}/", handler, args | {"bucket": bucket})
        folder = conversion.index_dir() or conversion.blob_path
        conversion.add_blobpacked(prefix, f"{stem}-loose/", f"{stem}-packed/", folder)
    else:
        conversion.add(prefix, handler, args)
    if not is_primary:
        queue = conversion.queue("googlecloud" if name == "googlecloudstorage" else name)
        conversion.add(f"/sync-to-{name}/", "sync", {"from": "/bs/", "to": prefix, **queue})


def s3_args(text: str, key: str = "s3", form: str = _S3_FORM) -> dict[str, object]:
    """The arguments of a storage-s3 for what stands under this key. Raises Untransformable."""
    # At most four parts, so that the host may carry a port.
    parts = text.split(":", 3)
    if len(parts) < 3 or not all(parts):
        refuse(f'genconfig: expected "{key}" field to be of form "{form}"')
    names = ("aws_access_key", "aws_secret_access_key", "bucket", "hostname")
    return dict(zip(names, parts, strict=False))


def _google_args(text: str) -> dict[str, object]:
    if text.startswith(":") and text.count(":") == 1 and text != ":":
        auth = {"client_id": "auto", "client_secret": "", "refresh_token": ""}
        return {"auth": auth, "bucket": text[1:]}
    parts = text.split(":", 3)
    if len(parts) != 4 or not all(parts):
        refuse(f"genconfig: {_GOOGLE_FORM}")
    return {"auth": _oauth(parts), "bucket": parts[3]}


def _drive_args(text: str) -> dict[str, object]:
    parts = text.split(":", 3)
    if len(parts) != 4 or not all(parts):
        refuse(
            'genconfig: expected "googledrive" field to be of form'
            ' "client_id:client_secret:refresh_token:parent_id"'
        )
    return {"auth": _oauth(parts), "parent_id": parts[3]}


def _oauth(parts: list[str]) -> dict[str, str]:
    names = ("client_id", "client_secret", "refresh_token")
    return dict(zip(names, parts, strict=False))
