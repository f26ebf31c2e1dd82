"""For the operator: the configuration without its secrets, threads, memory, the last log lines.

Perkeep lets everybody see some of these; here all of them take every right.
"""

import json
import logging
import resource
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from .answers import HTML, PLAIN, HttpError, typed
from .auth import Right
from .config.redact import redacted
from .routes import ANY, Mount, Route
from .status import chunked
from .world import World

LOG_LINES: Final = 1000


class RecentLog(logging.Handler):
    """Keeps the last lines of our own log."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


class Debug:
    """The pages below `/debug/`."""

    def __init__(self, world: World, log: RecentLog) -> None:
        self._world = world
        self._log = log

    def mounts(self) -> Iterable[Mount]:
        for path, right, handler in (
            ("config", Right.ALL, self.config),
            ("vars", Right.ALL, self.vars),
            ("goroutines", Right.READ, self.threads),
        ):
            yield Mount(f"/debug/{path}", f"debug-{path}", [Route(ANY, "", right, handler)])
        profile = [
            Route(ANY, "", Right.ALL, self.profile),
            Route(ANY, "cmdline", Right.ALL, self.command_line),
            Route(ANY, "*", Right.ALL, no_profile),
        ]
        yield Mount("/debug/pprof/", "debug-pprof", profile)
        logs = [
            Route(ANY, "perkeepd", Right.ALL, self.logs),
            Route(ANY, "*", Right.ALL, no_logs),
        ]
        yield Mount("/debug/logs/", "debug-logs", logs)

    async def config(self, _: Request) -> Response:
        source = self._world.config.source
        shown = redacted({key: source[key] for key in source if key != "handlerConfig"})
        text = json.dumps(shown, indent=4, sort_keys=True, ensure_ascii=False)
        return chunked(_text(text))

    async def vars(self, _: Request) -> Response:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        values = {
            "uptime_s": time.time() - self._world.started_s,
            "user_s": usage.ru_utime,
            "system_s": usage.ru_stime,
            "largest_memory_bytes": usage.ru_maxrss * 1024,
            "threads": threading.active_count(),
        }
        text = json.dumps(values, indent=2) + "\n"
        return chunked(typed(text.encode(), "application/json; charset=utf-8"))

    async def threads(self, _: Request) -> Response:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        parts = [
            f"thread {names.get(number, number)}:\n" + "".join(traceback.format_stack(frame))
            for number, frame in sys._current_frames().items()  # the only way to see them
        ]
        return chunked(_text("\n".join(parts)))

    async def profile(self, _: Request) -> Response:
        text = (
            "<!DOCTYPE html><html lang='en'><title>Profiles</title>"
            "<p>Profiles of the reference's kind do not exist here. See"
            " <a href='/debug/vars'>vars</a>, <a href='/debug/goroutines'>threads</a>.</p></html>"
        )
        answer = typed(text.encode(), HTML)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return chunked(answer)

    async def command_line(self, _: Request) -> Response:
        return _text("\0".join(sys.argv))

    async def logs(self, _: Request) -> Response:
        return _text("\n".join(self._log.lines) + "\n")


def _text(text: str) -> Response:
    answer = typed(text.encode("utf-8", "replace"), PLAIN)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


async def no_profile(_: Request) -> Response:
    raise HttpError(404, "Unknown profile")


async def no_logs(_: Request) -> Response:
    raise HttpError(404, "no such logs")
