from pathlib import Path

import pytest

from peatkeep.errors import ConfigError, Unsupported
from peatkeep.schema.keyring import create_key, read_ring
from peatkeep.server import sighelper
from tests.schema.locking import locked_ring


def test_a_key_that_cannot_sign_here_is_an_error_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: bytes) -> None:
        raise Unsupported("read", "key ring", "protected by a passphrase")

    ring = tmp_path / "ring"
    ring.write_bytes(b"")
    monkeypatch.setattr(sighelper, "read_ring", refuse)
    with pytest.raises(ConfigError, match=r"/sighelper/, keyId.*protected by a passphrase"):
        sighelper.key_of("/sighelper/", str(ring), "0123456789ABCDEF")


def test_a_locked_key_is_refused_at_the_start_since_nobody_can_be_asked(tmp_path: Path) -> None:
    ring = tmp_path / "ring"
    ring.write_bytes(locked_ring(create_key(), b"secret"))
    (key,) = read_ring(ring.read_bytes())
    with pytest.raises(ConfigError, match="a passphrase protects it, and a server has nobody"):
        sighelper.key_of("/sighelper/", str(ring), key.key_id)
