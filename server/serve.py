"""Running a server: the socket, uvicorn, signals, and an orderly end."""

import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final

import uvicorn

from ..errors import ConfigError, Unavailable
from .config.record import LowConfig
from .limits import protocol_class
from .service import Service
from .sockets import MESSAGE_BYTES, PING_EVERY_S, PONG_WAIT_S, LimitedSocket

log = logging.getLogger("peatkeep.server")

SHUTDOWN_WAIT_S: Final = 2
"""What runs at the end may finish for so long; then it is cut off."""

ONCE: Final = ("-reindex=false", "-recovery=0")
"""Behind flags of an earlier start, these take back what was asked of that one only."""

BACKLOG: Final = 1024

ARENAS: Final = 2
MAPPED_FROM_BYTES: Final = 4 * 1024 * 1024
KEPT_BYTES: Final = 16 * 1024 * 1024
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # <malloc.h>


def listen_on(listen: str) -> socket.socket:
    """A bound socket for `host:port` or `:port`. Raises ConfigError, Unavailable (port in use)."""
    host, colon, port_text = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port_text.isdigit() or int(port_text) > 65535:
        raise ConfigError("listen on", listen, "expected host:port or :port")
    try:
        found = socket.getaddrinfo(
            host or None, int(port_text), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ConfigError("listen on", listen, str(error)) from None
    # For all addresses: the IPv6 socket takes IPv4 as well, where there is IPv6.
    found.sort(key=lambda entry: entry[0] == socket.AF_INET6, reverse=not host)
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        try:
            return _bound(family, kind, protocol, address, both=not host)
        except OSError as error:
            failure = error
    raise Unavailable(
        "listen on",
        listen,
        f"{failure.strerror if failure else 'no address'}: is another server running there?"
        " Choose another with -listen or `listen` in the configuration",
    )


def _bound(family: int, kind: int, protocol: int, address: object, *, both: bool) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        bound.bind(address)  # type: ignore[arg-type]  # as getaddrinfo gave it
    except OSError:
        bound.close()
        raise
    return bound


def address_text(bound: socket.socket) -> str:
    """`host:port` of a bound socket, as a URL has it; a wildcard becomes localhost."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        host = "localhost"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HttpServer(uvicorn.Server):
    """uvicorn for one service: says when it is ready, ends by signals without dying of them."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self.wants_restart = False
        self.more_arguments: list[str] = []

    def restart(self, more_arguments: Sequence[str] = ()) -> None:
        """End, and start the program anew with its arguments and these."""
        self.more_arguments = list(more_arguments)
        self.wants_restart = True
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: object) -> None:
        if number == signal.SIGHUP:
            self.wants_restart = True
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True


def http_server(
    service: Service, on_ready: Callable[[], None], *, loop: str = "uvloop"
) -> HttpServer:
    """uvicorn set up for this service. Raises ConfigError for a certificate that can't be used."""
    config = service.world.config
    settings = uvicorn.Config(
        service.app,
        http=protocol_class(config.limits),
        ws=LimitedSocket,
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=PING_EVERY_S,
        ws_ping_timeout=PONG_WAIT_S,
        ws_per_message_deflate=False,
        loop=loop,
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=SHUTDOWN_WAIT_S,
        ssl_certfile=config.https_cert or None if config.https else None,
        ssl_keyfile=config.https_key or None if config.https else None,
    )
    try:
        settings.load()
    except (OSError, ValueError) as error:
        raise ConfigError("load certificate", config.https_cert, str(error)) from None
    return HttpServer(settings, on_ready)


def set_up_malloc() -> None:
    """Keep glibc from giving each thread a heap of its own, where windows of blobs stay behind, and
    from giving what a batch needs back to the system each time.

    Measured: 79 instead of 148 MB after uploads and multi-gets through all the bridge's threads;
    a quarter of the system's time for a large upload, in no more memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, ARENAS)
        mallopt(M_MMAP_THRESHOLD, MAPPED_FROM_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def restart_arguments(arguments: Sequence[str], more: Sequence[str]) -> list[str]:
    """Arguments for starting anew: the same and `more`, but what is done once is not done again."""
    kept = [argument for argument in arguments if argument not in ONCE]
    return [*kept, *ONCE, *more]


def serve(
    config: LowConfig,
    *,
    ready: Callable[[str], None],
    listen: str = "",
    environ: Mapping[str, str] | None = None,
    reindex: bool = False,
    recovery: int = 0,
) -> int:
    """Serve until a signal says to stop; the exit code.

    ready: called with the server's URL when it answers. listen: instead of the configured one.
    reindex, recovery: as of the topology.
    SIGINT and SIGTERM end it, SIGHUP starts the program anew with the same arguments.
    Raises ConfigError, Unavailable and what opening the stores raises.
    """
    set_up_malloc()
    bound = listen_on(listen or config.listen)
    try:
        service = Service(
            config,
            environ=environ,
            address=address_text(bound),
            reindex=reindex,
            recovery=recovery,
        )
        try:
            server = http_server(service, lambda: ready(service.world.base_url))
            service.restart = server.restart
            service.start()
            gc.freeze()  # or Python now and then looks through all that stays, for 25 ms
            server.run(sockets=[bound])
        finally:
            service.close()
    finally:
        bound.close()
    if server.wants_restart:
        log.info("starting anew")
        arguments = restart_arguments(sys.orig_argv[1:], server.more_arguments)
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - our own
    return 0
