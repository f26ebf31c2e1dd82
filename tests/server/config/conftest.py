"""The identity of the golden transcripts, as a keyring file."""

import base64
import json
from pathlib import Path

import pytest

VECTORS = Path(__file__).parents[2] / "vectors"


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    """A secret keyring with the key D4DEEB67AB332011."""
    identity = json.loads((VECTORS / "http/identity.json").read_text())
    path = tmp_path / "secring.gpg"
    path.write_bytes(base64.b64decode(identity["secret_ring_file_base64"]))
    return path
