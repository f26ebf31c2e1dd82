"""Encrypted stores for tests."""

from peatkeep.blobserver.encrypt.bech32 import from_bech32
from peatkeep.blobserver.encrypt.sealing import Sealer
from peatkeep.blobserver.encrypt.store import Encrypt
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.storage import Storage
from peatkeep.sorted.memory import MemoryKeyValue

TEST_ONLY_IDENTITY = "AGE-SECRET-KEY-1FDF2NAWKFWP506AQM0KVZF2UF549G0KMGQZWVXUXAQENERGLHKJSYG5AQH"
TEST_ONLY_OTHER_IDENTITY = (
    "AGE-SECRET-KEY-1R3FHL38K3HYLLE7J5P96P5V42ZEDHC3XEDNSNKEPY5JAG2DY5CFSGQWVF8"
)
SEALER = Sealer(TEST_ONLY_IDENTITY)
PUBLIC = from_bech32("age", SEALER.recipient.text) or b""
"""The public half of the key, 32 bytes."""


class Rows(MemoryKeyValue):
    """Rows that outlive their store."""

    def close(self) -> None:
        pass


class Below:
    """What an encrypted store lies on, and opening it again and again."""

    def __init__(self) -> None:
        self.blobs: Storage = Memory()
        self.metas: Storage = Memory()
        self.rows = Rows()
        self.memory = Rows()

    def open(self, sealer: Sealer = SEALER) -> Encrypt:
        return Encrypt(sealer, self.blobs, self.metas, self.rows, self.memory)

    def forget_index(self) -> None:
        self.rows = Rows()

    def forget_all(self) -> None:
        """As on another machine."""
        self.rows, self.memory = Rows(), Rows()

    def state(self) -> tuple[object, ...]:
        """All there is, to be compared."""
        return (
            *({ref: store.fetch(ref) for ref, _ in store.enumerate()} for store in self.stores),
            *(list(rows.find()) for rows in (self.rows, self.memory)),
        )

    @property
    def stores(self) -> tuple[Storage, Storage]:
        return self.blobs, self.metas
