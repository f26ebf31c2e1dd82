"""What the handlers of one server share."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .. import __version__
from ..errors import ConfigError
from .ahead import Budget
from .auth import Auth
from .bridge import Bridge
from .config.record import LowConfig, Prefix
from .topology import Topology

FORMS_AT_ONCE: Final = 8
"""Files that are received by forms at one time."""


@dataclass(slots=True)
class World:
    """One running server, as its handlers see it.

    environ: the process environment. address: where it listens, `host:port`.
    forms: threads apart from the others, held as long as a form takes to come in.
    budget: of those who get many blobs.
    """

    config: LowConfig
    topology: Topology
    auth: Auth
    environ: Mapping[str, str]
    bridge: Bridge = field(default_factory=Bridge)
    forms: Bridge = field(default_factory=lambda: Bridge(FORMS_AT_ONCE, "forms"))
    budget: Budget = field(default_factory=Budget)
    address: str = ""
    version: str = f"peatkeep {__version__}"
    started_s: float = field(default_factory=time.time)

    def enabled(self, handler: str) -> list[tuple[str, Prefix]]:
        """The prefixes of this handler type, by path."""
        return sorted(
            (prefix, conf)
            for prefix, conf in self.config.prefixes.items()
            if conf.enabled and conf.handler == handler
        )

    def first(self, handler: str) -> str:
        """Where this handler is mounted, or ""."""
        found = self.enabled(handler)
        return found[0][0] if found else ""

    @property
    def base_url(self) -> str:
        """The public URL without a final slash; from the listening address where none is set."""
        if self.config.base_url:
            return self.config.base_url.rstrip("/")
        return f"{'https' if self.config.https else 'http'}://{self.address}"


def text_arg(prefix: str, conf: Prefix, name: str, default: str | None = "") -> str:
    """A string of `handlerArgs`. default None: it must be there. Raises ConfigError."""
    value = conf.args.get(name, default)
    if not isinstance(value, str):
        raise ConfigError("configure", f"{prefix} ({conf.handler})", f"{name} must be a string")
    return value
