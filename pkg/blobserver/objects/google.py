"""Tokens of a Google account, for a refresh token."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.client import HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from ...errors import Forbidden, Unavailable

if TYPE_CHECKING:
    from obstore.store import GCSCredential

_HOST: Final = "oauth2.googleapis.com"
_TIMEOUT_S: Final = 30

Post = Callable[[str], tuple[int, bytes]]
"""Sends a form to the token service; status and body of the answer."""


def token_source(
    client_id: str, client_secret: str, refresh_token: str, post: Post | None = None
) -> "Callable[[], GCSCredential]":
    """What obstore calls whenever its token has run out. Raises Forbidden, Unavailable."""
    form = urlencode(
        {
            "client_id": client_id,
            "client_secret": client_secret,
            "refresh_token": refresh_token,
            "grant_type": "refresh_token",
        }
    )

    def fresh() -> "GCSCredential":
        status, body = (post or _post)(form)
        if 400 <= status < 500:
            raise Forbidden("get token from", _HOST, f"it answers {status}")
        try:
            answer = json.loads(body)
            ends = datetime.now(UTC) + timedelta(seconds=int(answer["expires_in"]))
            return {"token": str(answer["access_token"]), "expires_at": ends}
        except (ValueError, KeyError, TypeError):
            raise Unavailable("get token from", _HOST, f"it answers {status}") from None

    return fresh


def _post(form: str) -> tuple[int, bytes]:
    connection = HTTPSConnection(_HOST, timeout=_TIMEOUT_S)
    try:
        connection.request(
            "POST", "/token", form, {"Content-Type": "application/x-www-form-urlencoded"}
        )
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException) as error:
        raise Unavailable("get token from", _HOST, type(error).__name__) from None
    finally:
        connection.close()
