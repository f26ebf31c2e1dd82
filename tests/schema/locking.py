"""Put secret keys under a passphrase as RFC 4880 says, by other ways than the code under test."""

import hashlib
from itertools import chain, cycle, islice
from typing import NamedTuple

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from peatkeep.schema import armor
from peatkeep.schema.openpgp import SECRET_KEY, Cursor, packets, write_packet
from peatkeep.schema.publickey import read_public_key

SALT = b"TESTONLY"
START = bytes(range(16))


class Lock(NamedTuple):
    """usage: 254 or 255. cipher, way, hash_number: as the packet has them. count: its octet."""

    usage: int = 254
    cipher: int = 7
    way: int = 3
    hash_number: int = 2
    count: int = 0x60

    @property
    def specifier(self) -> bytes:
        salt = SALT if self.way else b""
        count = bytes([self.count]) if self.way == 3 else b""
        return bytes([self.way, self.hash_number]) + salt + count

    def key(self, passphrase: bytes) -> bytes:
        name = {1: "md5", 2: "sha1", 8: "sha256", 10: "sha512"}[self.hash_number]
        material = (SALT if self.way else b"") + passphrase
        size = {7: 16, 8: 24, 9: 32}[self.cipher]
        wanted = len(material)
        if self.way == 3:
            wanted = max(wanted, (16 + self.count % 16) * 2 ** (self.count // 16 + 6))
        found = b""
        for zeros in range(size):
            fed = bytes(chain(bytes(zeros), islice(cycle(material), wanted)))
            found += hashlib.new(name, fed).digest()
        return found[:size]


GNUPG_LOCK = Lock()
"""The form of GnuPG."""


def locked_ring(ring: bytes, passphrase: bytes, lock: Lock = GNUPG_LOCK) -> bytes:
    """The first key of an armored ring, and all behind it, the key under a passphrase."""
    (block,) = armor.blocks(ring)
    first, *others = packets(block.data)
    cursor = Cursor(first.body, "key")
    public = read_public_key(cursor).body
    numbers = cursor.rest()[1:-2]
    if lock.usage == 254:
        numbers += hashlib.sha1(numbers).digest()
    else:
        numbers += (sum(numbers) % 65536).to_bytes(2, "big")
    encryptor = Cipher(algorithms.AES(lock.key(passphrase)), CFB(START)).encryptor()
    head = bytes([lock.usage, lock.cipher]) + lock.specifier + START
    body = public + head + encryptor.update(numbers) + encryptor.finalize()
    rest = b"".join(write_packet(*packet) for packet in others)
    return armor.encode(armor.PRIVATE_KEY, write_packet(SECRET_KEY, body) + rest).encode()
