"""Loop devices and mounts, for programs that run in a mount namespace of their own.

`apart` starts a module so; what it mounts and attaches goes with it, however it ends.
"""

import ctypes
import errno
import fcntl
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A
LOOP_CONFIG = struct.Struct("<II 40x 12x I 64x 64x 32x 16x 64x")
LO_FLAGS_AUTOCLEAR = 4
BLKFLSBUF = 0x1261
MNT_DETACH = 2

_LIBC = ctypes.CDLL(None, use_errno=True)


def lacking(*, fuse: bool = False) -> str:
    """What this machine lacks for mounts; "" where nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    for path, is_needed in (("/dev/loop-control", True), ("/dev/fuse", fuse)):
        if is_needed and not os.path.exists(path):
            return f"needs {path}"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "needs the right to mount"


def apart(module: str, *arguments: object, own_mounts: bool = False) -> Any:
    """Run a module below tests/reliability in a process of its own; what it says, from JSON.

    The last line that it prints is its answer.
    """
    command = [sys.executable, "-m", f"tests.reliability.{module}", *map(str, arguments)]
    if own_mounts:
        command = ["unshare", "--mount", "--propagation", "private", *command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"[-4000:])
    return json.loads(done.stdout.splitlines()[-1])


def mount(source: str, target: Path, kind: str, options: str = "") -> None:
    data = options.encode() or None
    if _LIBC.mount(source.encode(), str(target).encode(), kind.encode(), 0, data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source)


def unmount(target: Path, flags: int = 0) -> None:
    if _LIBC.umount2(str(target).encode(), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


@contextmanager
def mounted(source: str, target: Path, kind: str, options: str = "") -> Iterator[Path]:
    mount(source, target, kind, options)
    try:
        yield target
    except BaseException:
        unmount(target, MNT_DETACH)
        raise
    unmount(target)


class Loop:
    """A loop device over a file; it goes when nobody has it open or mounted any more."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file, open("/dev/loop-control", "r+b", buffering=0) as control:
            config = LOOP_CONFIG.pack(file.fileno(), 0, LO_FLAGS_AUTOCLEAR)
            while True:
                self.device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
                self._descriptor = os.open(self.device, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(self._descriptor, LOOP_CONFIGURE, config)
                except OSError as error:
                    os.close(self._descriptor)
                    if error.errno != errno.EBUSY:
                        raise
                    continue  # another process was quicker
                return

    def forget(self) -> None:
        """Drop what the kernel remembers of the device: its file was changed."""
        fcntl.ioctl(self._descriptor, BLKFLSBUF)

    def close(self) -> None:
        os.close(self._descriptor)
