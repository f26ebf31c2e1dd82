"""The text of files: of text as it is, of PDF by pypdf in a process of its own with limits."""

import os
import resource
import subprocess
import sys
import threading
from typing import Final

from ..blob import Fetcher, Ref
from ..errors import StoreError
from ..schema.filereader import FileReader

TEXT_BYTES: Final = 1024 * 1024
"""What is read of a text, and kept of the text of any file."""

PDF_BYTES: Final = 32 * 1024 * 1024
"""A larger one is passed over."""

CPU_S: Final = 20
WAIT_S: Final = 600
MEMORY_BYTES: Final = 1024 * 1024 * 1024
PDF: Final = "application/pdf"

_TEXTS: Final = frozenset(
    {"", "application/json", "application/javascript", "application/xml", "image/svg+xml"}
)


class TextReader:
    """Reads texts, one at a time, until it is stopped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def text_of(self, blobs: Fetcher, file: Ref, mime: str, size: int) -> str:
        """What can be read in a file; "" for one without text, or that can't be read."""
        is_text = mime.startswith("text/") or mime in _TEXTS
        if not is_text and (mime != PDF or size > PDF_BYTES):
            return ""
        try:
            data = FileReader(blobs, file).read(0, min(size, TEXT_BYTES if is_text else PDF_BYTES))
        except StoreError:
            return ""
        return _decoded(data, strict=not mime) if is_text else self._of_pdf(data)

    def stop(self) -> None:
        """Give up what is being read, from another thread; nothing is read from now on."""
        with self._lock:
            self._is_stopped = True
            if self._process is not None:
                self._process.kill()

    def _of_pdf(self, data: bytes) -> str:
        """Hostile files are common: whatever the reader does to itself, it does alone.

        Of what breaks or takes too long, the pages before that.
        """
        try:
            process = self._started()
        except OSError:
            return ""
        if process is None:
            return ""
        with process:
            try:
                text, _ = process.communicate(data, WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                text, _ = process.communicate()
            except OSError:
                process.kill()
                return ""
            finally:
                with self._lock:
                    self._process = None
        return text.decode("utf-8", "replace")

    def _started(self) -> "subprocess.Popen[bytes] | None":
        command = [sys.executable, "-P", "-m", __name__]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        with self._lock:
            if not self._is_stopped:
                self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null)
            return self._process


def _decoded(data: bytes, *, strict: bool) -> str:
    """strict: nothing says that it is text, so it must look so."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if b"\0" in data:
        return ""
    text = data.decode("utf-8", "replace")
    # The last character may be cut, if so much is there.
    whole = text[:-1] if len(data) == TEXT_BYTES else text
    return "" if strict and "\ufffd" in whole else text


def _limit() -> None:
    os.nice(10)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _main() -> int:
    """A PDF on standard input, its text on standard output. 1: nobody here reads PDF."""
    _limit()
    try:
        import pypdf
    except ImportError:
        return 1
    import io

    left = TEXT_BYTES
    for page in pypdf.PdfReader(io.BytesIO(sys.stdin.buffer.read())).pages:
        text = page.extract_text().encode("utf-8", "replace")[:left] + b"\n"
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()  # a limit may end us at the next one
        left -= len(text)
        if left <= 0:
            break
    return 0


if __name__ == "__main__":
    sys.exit(_main())
