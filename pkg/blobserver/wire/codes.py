"""Why an item failed, and why a connection is closed (pkg/blobserver/STREAM.md, "Errors")."""

from typing import Final

from ...errors import Invalid


class Violation:
    """Close codes."""

    MALFORMED: Final = 4400
    SILENCE: Final = 4408
    ORDER: Final = 4409
    LIMIT: Final = 4413
    VERSION: Final = 4426
    FLOOD: Final = 4429


class Code:
    """Codes of ERROR."""

    MALFORMED: Final = 400
    FORBIDDEN: Final = 403
    NOT_FOUND: Final = 404
    DAMAGED: Final = 409
    GONE: Final = 410
    TOO_LARGE: Final = 413
    MISMATCH: Final = 422
    STOPPED: Final = 499
    FAILED: Final = 500
    UNSUPPORTED: Final = 501
    UNAVAILABLE: Final = 503
    NO_SPACE: Final = 507


class ProtocolViolation(Invalid):
    """The peer broke the protocol: close the websocket with `close_code` and forget it."""

    def __init__(self, close_code: int, reason: str) -> None:
        super().__init__("read", "stream", reason)
        self.close_code = close_code

    def __reduce__(self) -> tuple[type, tuple[int, str]]:  # type: ignore[override]
        return type(self), (self.close_code, self.reason)
