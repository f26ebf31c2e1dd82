"""Passphrases of keys: asked for through gpg-agent, else through pinentry, by stand-ins of both."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.clients.authoring import load_signer
from peatkeep.clients.config import ClientConfig
from peatkeep.clients.passphrase import Passphrases
from peatkeep.errors import Forbidden, StoreError, Unavailable
from peatkeep.schema.keyring import read_ring
from peatkeep.schema.protection import WrongPassphrase
from tests.clients.pinentry import Pinentry
from tests.schema.keys import VECTORS
from tests.schema.locking import locked_ring

PASSPHRASE = "100% sésame +1"
RING = (VECTORS / "keys" / "TEST-ONLY-A.identity-secring.gpg").read_bytes()
KEY = read_ring(RING)[0]


class Machine:
    """A machine with this pinentry, and with a home of GnuPG in which no agent runs yet."""

    def __init__(self, folder: Path) -> None:
        self.gnupg = folder / "gnupg"
        self.gnupg.mkdir(mode=0o700)
        self.ring = folder / "ring.gpg"
        self.ring.write_bytes(locked_ring(RING, PASSPHRASE.encode()))
        self.pinentry = Pinentry(folder / "bin")
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        self.environ = {"PATH": path, "GNUPGHOME": str(self.gnupg), "GPG_TTY": "/dev/tty9"}

    def start_agent(self) -> None:
        (self.gnupg / "gpg-agent.conf").write_text(f"pinentry-program {self.pinentry.program}\n")
        self._gnupg("gpg-agent", "--homedir", str(self.gnupg), "--daemon")

    def stop_agent(self) -> None:
        self._gnupg("gpgconf", "--homedir", str(self.gnupg), "--kill", "gpg-agent")

    def _gnupg(self, *command: str) -> None:
        # To files and not to pipes: an agent in the background would keep a pipe open.
        null = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=null, stderr=null)

    def sign(self) -> bytes:
        config = ClientConfig(identity=KEY.key_id, secret_ring=self.ring)
        signer = load_signer(config, Passphrases(self.environ))
        return signer.sign(f'{{"camliVersion":1,"camliSigner":"{signer.ref}"}}'.encode(), 1)


@pytest.fixture
def machine() -> Iterator[Machine]:
    folder = Path(tempfile.mkdtemp(prefix="pk-ask-", dir="/tmp"))  # short: a socket lies in it
    made = Machine(folder)
    try:
        yield made
    finally:
        made.stop_agent()
        shutil.rmtree(folder)


@pytest.mark.parametrize("with_agent", [False, True])
def test_a_locked_key_signs_with_the_passphrase_that_was_typed(
    machine: Machine, with_agent: bool
) -> None:
    if with_agent:
        machine.start_agent()
    machine.pinentry.will_say("wrong", PASSPHRASE)
    signed = machine.sign()
    assert KEY.key_id in "".join(
        line for line in machine.pinentry.heard if line.startswith("SETDESC")
    )
    assert "SETERROR wrong passphrase" in machine.pinentry.heard
    machine.ring.write_bytes(RING)
    assert signed == machine.sign()


def test_the_agent_remembers_the_passphrase(machine: Machine) -> None:
    machine.start_agent()
    machine.pinentry.will_say(PASSPHRASE)
    assert machine.sign() == machine.sign()
    assert machine.pinentry.times_asked == 1


@pytest.mark.parametrize("with_agent", [False, True])
def test_who_cancels_is_asked_nothing_more(machine: Machine, with_agent: bool) -> None:
    if with_agent:
        machine.start_agent()
    machine.pinentry.will_say("cancel")
    with pytest.raises(Forbidden, match="cancelled"):
        machine.sign()
    assert machine.pinentry.times_asked == 1


@pytest.mark.parametrize("with_agent", [False, True])
def test_three_wrong_passphrases_end_it_and_stand_in_no_message(
    machine: Machine, with_agent: bool
) -> None:
    if with_agent:
        machine.start_agent()
    machine.pinentry.will_say("first-secret", "second-secret", "third-secret", PASSPHRASE)
    with pytest.raises(WrongPassphrase, match="3 wrong passphrases") as raised:
        machine.sign()
    assert machine.pinentry.times_asked == 3
    shown: BaseException | None = raised.value
    while shown is not None:
        assert "secret" not in str(shown).replace("secret key", "")
        shown = shown.__cause__ or shown.__context__


@pytest.mark.parametrize(
    "pinentry", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho 'ERR 67109139 broken'\n", None]
)
def test_where_nobody_can_ask_the_error_says_what_is_missing(
    machine: Machine, pinentry: str | None
) -> None:
    if pinentry is None:
        machine.environ["PATH"] = "/nowhere"
    else:
        machine.pinentry.program.write_text(pinentry)
    with pytest.raises(Unavailable, match="neither gpg-agent nor pinentry could ask") as raised:
        machine.sign()
    assert KEY.key_id in str(raised.value)


def test_a_damaged_ring_is_told_before_anybody_is_asked(machine: Machine) -> None:
    machine.ring.write_bytes(machine.ring.read_bytes()[:300])
    with pytest.raises(StoreError):
        machine.sign()
    assert machine.pinentry.heard == []
