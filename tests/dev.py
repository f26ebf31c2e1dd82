"""Serve a throw-away store and start again whenever the code changes: `./pk dev [ARGUMENTS]`.

Arguments go to peatkeepd. The store is below a temporary folder and removed at the end.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("pkg", "server", "clients", "cmd")
LOOK_EVERY_S = 1.0


def newest_ns() -> int:
    """When the code last changed."""
    files = (file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
    return max(file.stat().st_mtime_ns for file in files)


def main(arguments: list[str]) -> int:
    program = Path(sys.executable).with_name("peatkeepd")
    with tempfile.TemporaryDirectory(prefix="peatkeep-dev-") as home:
        command = [program, "up", "--data", f"{home}/data", *arguments]
        environ = {**os.environ, "HOME": home}
        print(f"dev: HOME={home} is the home of clients of this server", flush=True)
        while True:
            seen_ns = newest_ns()
            server = subprocess.Popen(command, env=environ)
            try:
                while server.poll() is None and newest_ns() == seen_ns:
                    time.sleep(LOOK_EVERY_S)
                if server.poll() is not None:
                    return server.returncode
                print("dev: the code changed", flush=True)
            except KeyboardInterrupt:
                return 0
            finally:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
