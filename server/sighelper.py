"""The signing helper: the server's public key, and signatures for those who hold no key."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from ..blob import Fetcher, parse_ref
from ..blobserver.memory import Memory
from ..blobserver.storage import Storage
from ..errors import ConfigError, Invalid, NotFound, TooLarge, Unsupported
from ..schema.keyring import SecretKey, find_key, read_ring
from ..schema.signing import VERDICTS, Signer, verify
from ..schema.text import MAX_SCHEMA_SIZE
from .answers import PLAIN, HttpError, json_answer, json_text, redirect, typed
from .auth import Right
from .bridge import Bridge
from .forms import form_of
from .getting import serve_blob
from .routes import ANY, POST, READ, Route

_LOCKED = (
    "a passphrase protects it, and a server has nobody to ask. Give it a keyring without one"
    " (`gpg --edit-key` and `passwd` take it off a copy), readable by the server alone"
)


class SigHelper:
    """Mounted at `/sighelper/`. Signs whatever object names the server's own key.

    destination: the store that must hold the public key; None where none is configured.
    """

    def __init__(
        self, prefix: str, key: SecretKey, bridge: Bridge, destination: Storage | None
    ) -> None:
        self.signer = Signer(key)
        self._prefix = prefix
        self._bridge = bridge
        self._destination = destination
        self._own_key = Memory()
        self._own_key.receive(self.signer.ref, self.signer.public_text)

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(READ, "", Right.ALL, self.front),
            Route(READ, "camli/sig/discovery", Right.ALL, self.discovery),
            Route(READ, "camli/sig/sign", Right.ALL, post_required),
            Route(READ, "camli/sig/verify", Right.ALL, post_required),
            Route(READ, "camli/*", Right.ALL, self.public_key),
            Route(POST, "camli/sig/sign", Right.ALL, self.sign),
            Route(POST, "camli/sig/verify", Right.ALL, self.verify),
            Route(ANY, "*", Right.ALL, unsupported),
        )

    def document(self) -> Mapping[str, object]:
        """What discovery says of it."""
        return {
            "publicKey": f"{self._prefix}camli/{self.signer.ref}",
            "publicKeyBlobRef": self.signer.ref,
            "publicKeyId": self.signer.key_id,
            "signHandler": f"{self._prefix}camli/sig/sign",
            "verifyHandler": f"{self._prefix}camli/sig/verify",
        }

    def store_public_key(self) -> None:
        """Make sure that whoever reads our claims finds the key they name."""
        if self._destination is not None and not list(self._destination.stat([self.signer.ref])):
            self._destination.receive(self.signer.ref, self.signer.public_text)

    async def front(self, request: Request) -> Response:
        return redirect(request, f"{self._prefix}camli/sig/discovery", 302)

    async def discovery(self, _: Request) -> Response:
        return json_answer(self.document())

    async def public_key(self, request: Request) -> Response:
        ref = parse_ref(request.scope["path"].rpartition("/camli/")[2])
        if ref != self.signer.ref:
            raise unsupported_path()
        return await serve_blob(self._bridge, self._own_key, self.signer.ref, request)

    async def sign(self, request: Request) -> Response:
        text = (await form_of(request, multipart_too=False)).get("json", "")
        if not text:
            raise HttpError(400, 'missing "json" parameter')
        data = text.encode("utf-8", "replace")
        if len(data) > MAX_SCHEMA_SIZE:
            raise HttpError(400, 'parameter "json" too large')
        try:
            signed = await self._bridge.call(self._sign, data)
        except Invalid as error:
            raise HttpError(400, error.reason) from None
        return typed(signed, PLAIN)

    def _sign(self, data: bytes) -> bytes:
        signed = self.signer.sign(data, int(time.time()))
        self.store_public_key()
        return signed

    async def verify(self, request: Request) -> Response:
        text = (await form_of(request, multipart_too=False)).get("sjson", "")
        if not text:
            raise HttpError(400, 'missing "sjson" parameter')
        data = text.encode("utf-8", "replace")
        verdict = await self._bridge.call(verdict_on, data, self._own_key)
        return typed(json_text(verdict).encode(), PLAIN)


def verdict_on(data: bytes, keys: Fetcher) -> dict[str, object]:
    """Who signed this, or why nobody did."""
    try:
        found = verify(data, keys)
    except NotFound:
        message = "key blob not found"
    except TooLarge as error:
        message = error.reason
    except Invalid as error:
        message = VERDICTS.get(error.operation, VERDICTS["verify"])
    else:
        return {
            "signatureValid": True,
            "signerKeyId": found.key_id,
            "verifiedData": dict(sorted(found.payload.items())),
        }
    return {"signatureValid": False, "errorMessage": message}


def unsupported_path() -> HttpError:
    return HttpError(400, "Unsupported path or method.")


async def unsupported(_: Request) -> Response:
    raise unsupported_path()


async def post_required(_: Request) -> Response:
    raise HttpError(400, "POST required")


def key_of(prefix: str, ring_path: str, key_id: str) -> SecretKey:
    """The secret key that the configuration names. Raises ConfigError."""
    try:
        key = find_key(read_ring(Path(ring_path).read_bytes()), key_id)
    except OSError as error:
        raise ConfigError("read key ring", ring_path, error.strerror or str(error)) from None
    except (Invalid, NotFound, Unsupported) as error:
        raise ConfigError("configure", f"{prefix}, keyId", str(error)) from None
    if key.is_locked:
        raise ConfigError("sign with", f"key {key_id} of {ring_path}", _LOCKED)
    return key
