"""Asking a person for the passphrase of a key: through gpg-agent, else through pinentry.

Both speak Assuan: a line for each command, answered by lines up to `OK` or `ERR`. What was typed is
in no message, no log and no error.
"""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Final
from urllib.parse import quote, unquote_to_bytes

from ..errors import Forbidden, StoreError, Unavailable
from ..schema.keyring import SecretKey

ANSWER_WAIT_S: Final = 600
"""How long a person may take."""

PROGRAM_WAIT_S: Final = 10
"""How long a program may take to answer where no person is asked, or to end."""

_LONGEST_LINE: Final = 4096
_CANCELLED: Final = frozenset({99, 198})
"""Codes of `ERR`, without the source of the error in their upper half."""

_NOBODY_TO_ASK: Final = (
    "a passphrase protects it, and neither gpg-agent nor pinentry could ask for it ({why});"
    " at a terminal, `export GPG_TTY=$(tty)` may help"
)


class Passphrases:
    """Asks for passphrases; an `Ask` of pkg/schema/keyring.py. gpg-agent remembers them.

    environ: where the programs and their sockets are found, and on which terminal they ask.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __call__(self, key: SecretKey, complaint: str) -> bytes:
        """Raises Forbidden if the person cancels, Unavailable if no program can ask."""
        problems = []
        for ask in (self._ask_agent, self._ask_pinentry):
            try:
                return ask(key, complaint)
            except _RefusedError as error:
                if error.code in _CANCELLED:
                    raise Forbidden("unlock", f"key {key.key_id}", "cancelled") from None
                problems.append(str(error))
            except OSError as error:
                problems.append(error.strerror or str(error))
            except subprocess.TimeoutExpired as error:
                problems.append(f"{error.cmd[0]} does not answer")
        why = _NOBODY_TO_ASK.format(why="; ".join(problems))
        raise Unavailable("unlock", f"key {key.key_id}", why)

    def _ask_agent(self, key: SecretKey, complaint: str) -> bytes:
        path = _agent_socket(self._environ)
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(ANSWER_WAIT_S)
            try:
                link.connect(path)
            except OSError as error:
                raise OSError(error.errno, f"no gpg-agent at {path}") from None
            with link.makefile("rb") as incoming, link.makefile("wb") as outgoing:
                agent = _Dialogue(incoming, outgoing, "gpg-agent")
                self._tell_terminal(agent)
                name = f"peatkeep:{key.fingerprint}"
                if complaint:
                    agent.say(f"CLEAR_PASSPHRASE {name}")
                words = [complaint or "X", "Passphrase", _description(key)]
                said = " ".join(quote(word, safe="") for word in words)
                return agent.say(f"GET_PASSPHRASE --data {name} {said}")

    def _ask_pinentry(self, key: SecretKey, complaint: str) -> bytes:
        with _pinentry(self._environ) as pinentry:
            self._tell_terminal(pinentry)
            pinentry.say(f"SETDESC {_escaped(_description(key))}")
            pinentry.say("SETPROMPT Passphrase:")
            if complaint:
                pinentry.say(f"SETERROR {_escaped(complaint)}")
            return pinentry.say("GETPIN")

    def _tell_terminal(self, program: "_Dialogue") -> None:
        """Say where the person sits. What a program does not know of this is no harm."""
        environ = self._environ
        locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG")
        options = {
            "ttyname": environ.get("GPG_TTY") or _terminal(),
            "ttytype": environ.get("TERM"),
            "lc-ctype": locale,
            "display": environ.get("DISPLAY"),
        }
        for name, value in options.items():
            if value:
                try:
                    program.say(f"OPTION {name}={_escaped(value)}")
                except _RefusedError:
                    continue


def _description(key: SecretKey) -> str:
    owner = key.user_ids[0].decode("utf-8", "replace") if key.user_ids else ""
    return f"To sign as {owner} (key {key.key_id}), peatkeep needs the passphrase of this key."


def _terminal() -> str:
    """The terminal of this process, "" without one."""
    for stream in (sys.__stdin__, sys.__stderr__):
        try:
            if stream is not None:
                return os.ttyname(stream.fileno())
        except (OSError, ValueError):
            continue
    return ""


# -- the two programs ---------------------------------------------------------------------------


def _program(name: str, environ: Mapping[str, str]) -> str:
    found = shutil.which(name, path=environ.get("PATH", ""))
    if found is None:
        raise OSError(None, f"no {name} on this machine")
    return found


def _agent_socket(environ: Mapping[str, str]) -> str:
    """The path of gpg-agent's socket, whether an agent runs or not."""
    answer = subprocess.run(
        [_program("gpgconf", environ), "--list-dirs", "agent-socket"],
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PROGRAM_WAIT_S,
        check=False,
    )
    return os.fsdecode(unquote_to_bytes(answer.stdout.strip()))


@contextmanager
def _pinentry(environ: Mapping[str, str]) -> Iterator["_Dialogue"]:
    with subprocess.Popen(
        [_program("pinentry", environ)],
        env=dict(environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield _Dialogue(process.stdout, process.stdin, "pinentry")
        finally:
            process.stdin.close()
            try:
                process.wait(PROGRAM_WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()


# -- what is said -------------------------------------------------------------------------------


class _RefusedError(StoreError):
    """An `ERR`."""

    def __init__(self, program: str, code: int, reason: str) -> None:
        super().__init__("ask", program, reason)
        self.code = code


class _Dialogue:
    """One end of an Assuan connection. Its other end begins, with an `OK`."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes], program: str) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._program = program
        self._answer()

    def say(self, command: str) -> bytes:
        """Send a command; the data of its answer. Raises _RefusedError, OSError."""
        self._send(command)
        return self._answer()

    def _send(self, line: str) -> None:
        self._outgoing.write(line.encode("utf-8", "surrogateescape") + b"\n")
        self._outgoing.flush()

    def _answer(self) -> bytes:
        data = bytearray()
        while True:
            line = self._incoming.readline(_LONGEST_LINE)
            word, _, rest = line.rstrip(b"\r\n").partition(b" ")
            if word == b"D":
                data += unquote_to_bytes(rest)
            elif word == b"OK":
                return bytes(data)
            elif word == b"ERR":
                code, _, text = rest.partition(b" ")
                number = int(code) & 0xFFFF if code.isdigit() else 0
                raise _RefusedError(self._program, number, text.decode("utf-8", "replace"))
            elif word == b"INQUIRE":
                self._send("END")
            elif not line:
                raise OSError(None, f"{self._program} went away")


def _escaped(text: str) -> str:
    """A text as an argument that runs to the end of its line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
