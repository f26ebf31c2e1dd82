"""What tests wait for: something that comes about, and a port that stays free until its server
listens. On a slow machine both take longer, and that is all.
"""

import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

GUARD_S: Final = 60.0
"""How long a test waits for what must come: long after a person would have given up."""

LOOK_EVERY_S: Final = 0.01

LOWEST_PORT: Final = 10_000
_claims: list[socket.socket] = []


def wait_until(is_so: Callable[[], bool], wait_s: float = GUARD_S) -> None:
    give_up = time.monotonic() + wait_s
    while not is_so():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(LOOK_EVERY_S)


def free_port() -> int:
    """A port of loopback that is given to nobody else before this process ends.

    It lies below those that the system gives to connections and to whoever listens on port 0;
    other test processes see that it is claimed by an abstract Unix socket of its name.
    """
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    while True:
        port = random.SystemRandom().randrange(LOWEST_PORT, max(int(ports[0]), 2 * LOWEST_PORT))
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0peatkeep-test-port-{port}")
            with socket.create_server(("", port)):
                _claims.append(claim)
                return port
        except OSError:
            claim.close()
