"""A low-level configuration that may be shown: every secret in it replaced by one word."""

import re
from collections.abc import Mapping
from typing import Final

REDACTED: Final = "REDACTED"

# Names of files with secrets are no secrets.
_SHOWN = frozenset({"secretRing", "secringFile", "identitySecretRing", "keyFile", "httpsKey"})
_SECRET = re.compile(r"auth|secret|passw|token|access_?key|application_?key", re.IGNORECASE)
_WITH_LOGIN = frozenset(
    {"b2", "flickr", "googlecloudstorage", "googledrive", "instapaper", "mongo", "mysql"}
    | {"picasa", "postgres", "s3"}
)
_LOGIN_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def redacted(value: object, key: str = "") -> object:
    """Return `value`, a configuration of either level, without its secrets.

    A text is secret by the name of its member: `auth`, whatever speaks of a secret, password,
    token or access key, and the high level's keys with credentials in them. A login within a URL
    is cut out wherever it stands.
    """
    if isinstance(value, Mapping):
        return {name: redacted(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [redacted(item, key) for item in value]
    if not isinstance(value, str):
        return value
    is_secret = key in _WITH_LOGIN or (key not in _SHOWN and _SECRET.search(key))
    return REDACTED if is_secret and value else _LOGIN_IN_URL.sub(REDACTED, value)
