"""The server that a command talks to: chosen by flags, environment and configuration."""

import json
import os
from collections.abc import Mapping
from functools import cached_property

from ..blobserver.remote import Discovery, Remote, Response, Transport, discover
from ..blobserver.remote.transport import status_error
from ..clients.config import ClientConfig, ServerEntry, choose_server, read_config
from ..errors import Corrupt, Unsupported
from .common import Session
from .line import line_of


class Connection:
    """One server. Nothing is sent before it is needed; discovery happens once.

    wanted: a URL, host:port or alias; empty means the default. insecure: accept any certificate.
    """

    def __init__(self, session: Session, wanted: str = "", *, insecure: bool = False) -> None:
        self.config: ClientConfig = read_config(os.environ)
        environ: Mapping[str, str] = os.environ
        if wanted:  # what a command names for itself beats the environment
            environ = {
                n: v for n, v in os.environ.items() if n not in ("PK_SERVER", "CAMLI_SERVER")
            }
        entry = choose_server(self.config, environ, wanted or session.server)
        self.entry: ServerEntry = entry
        self.transport = Transport(
            entry.url,
            entry.auth,
            trusted_certs=entry.trusted_certs,
            insecure=insecure,
            proxies=os.environ,
            line=line_of(),
        )
        if session.is_verbose:
            self.transport.on_request = lambda method, path: session.output.note(f"{method} {path}")

    @cached_property
    def discovery(self) -> Discovery:
        return discover(self.transport)

    def storage(self, prefix: str = "") -> Remote:
        """The blobs below a prefix: by default the path of the server's URL, else its blobRoot."""
        return Remote.on(self.transport, self.discovery, prefix, line=line_of())

    def search(self, operation: str, query: str = "", body: bytes | None = None) -> bytes:
        """The answer of the search handler, as it stands: a GET, or a POST where a body is given.

        Raises Unsupported where the server has no search; else what its answer means.
        """
        root = self.discovery.search_root
        if not root:
            raise Unsupported(operation, "on this server", f"{self.transport} has no search")
        path = f"{self.transport.path_of(root).rstrip('/')}/camli/search/{operation}"
        path += f"?{query}" if query else ""
        method = "GET" if body is None else "POST"
        response = self.transport.request(method, path, body=body, counted=True)
        return self.checked(operation, response).body

    def search_object(
        self, operation: str, query: str = "", body: bytes | None = None
    ) -> Mapping[str, object]:
        """The same as an object. Raises Corrupt where it is none."""
        try:
            answer = json.loads(self.search(operation, query, body))
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Corrupt(operation, f"on {self.transport}", "the answer is no JSON object")
        return answer

    def checked(self, operation: str, response: Response) -> Response:
        """The answer, if it is one. An error may come with status 200 (`errorType`)."""
        if response.status in (404, 405):
            reason = f"{self.transport} can't do it yet: searching needs a newer server"
            raise Unsupported(operation, "on this server", reason)
        if response.status != 200:
            raise status_error(operation, "on the server", self.transport, response)
        if b'"errorType"' in response.body[:4096]:
            answer = json.loads(response.body)
            if isinstance(answer, dict) and "errorType" in answer:
                reason = f"{self.transport}: {answer.get('error')}"
                raise Unsupported(operation, "on this server", reason)
        return response
