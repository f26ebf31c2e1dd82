from pathlib import Path

import pytest

from peatkeep.errors import ConfigError, Unsupported
from peatkeep.server import sighelper


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
