"""RSA, DSA and ECDSA as OpenPGP keys carry them: their numbers, checking, signing.

`cryptography` is imported when the first key is used, not before: importing it takes longer
than most commands run.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self

from ..errors import Unsupported
from .openpgp import DSA, ECDSA, RSA, RSA_SIGN_ONLY, SHA256, Cursor

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

MIN_RSA_BITS: Final = 1024
MAX_RSA_BITS: Final = 16384
"""Bits of the modulus. The upper limit is OpenSSL's own; it bounds the time of a check."""

_MAX_EXPONENT_BYTES: Final = 3
_CURVES: Final = {
    bytes.fromhex("2a8648ce3d030107"): "SECP256R1",
    bytes.fromhex("2b81040022"): "SECP384R1",
    bytes.fromhex("2b81040023"): "SECP521R1",
}

Check = Callable[[bytes, bytes, int], bool]
"""(numbers of the signature, digest, hash algorithm) -> whether it is good. Raises Invalid."""

Sign = Callable[[bytes], tuple[bytes, ...]]
"""SHA-256 digest -> numbers of the signature, big endian."""


class Material(Protocol):
    """The public numbers of a key."""

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        """Raises Invalid for broken numbers, Unsupported for a weak key or an unknown curve."""
        ...

    def checker(self) -> Check:
        """Raises ValueError if the numbers are no key."""
        ...

    def signer(self, secret: Cursor) -> Sign:
        """Read the secret numbers. Raises Invalid; ValueError if they are of another key."""
        ...


class RsaMaterial(NamedTuple):
    """Modulus and exponent."""

    n: int
    e: int

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        n = _integer(cursor)
        exponent = cursor.number()
        if len(exponent) > _MAX_EXPONENT_BYTES:
            raise Unsupported("use", "public key", "an RSA exponent above 24 bits")
        if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
            raise Unsupported("use", "public key", f"RSA of {n.bit_length()} bits")
        return cls(n, int.from_bytes(exponent, "big"))

    def checker(self) -> Check:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import rsa

        verify = rsa.RSAPublicNumbers(self.e, self.n).public_key().verify
        padding = _padding()
        size = (self.n.bit_length() + 7) // 8
        all_bits = (8 * size).to_bytes(2, "big")

        def check(numbers: bytes, digest: bytes, hash_algorithm: int) -> bool:
            if len(numbers) == size + 2 and numbers[:2] == all_bits:
                value = numbers[2:]  # as nearly all are written
            else:
                value = Cursor(numbers, "RSA signature").number().rjust(size, b"\0")
            try:
                verify(value, digest, padding, _prehashed(hash_algorithm))
            except InvalidSignature:
                return False
            return True

        return check

    def signer(self, secret: Cursor) -> Sign:
        from cryptography.hazmat.primitives.asymmetric import rsa

        d, p, q = _integer(secret), _integer(secret), _integer(secret)
        _integer(secret)  # p^-1 mod q; the library wants q^-1 mod p
        numbers = rsa.RSAPrivateNumbers(
            p=p,
            q=q,
            d=d,
            dmp1=rsa.rsa_crt_dmp1(d, p),
            dmq1=rsa.rsa_crt_dmq1(d, q),
            iqmp=rsa.rsa_crt_iqmp(p, q),
            public_numbers=rsa.RSAPublicNumbers(self.e, self.n),
        )
        key = numbers.private_key()
        return lambda digest: (key.sign(digest, _padding(), _prehashed(SHA256)),)


class DsaMaterial(NamedTuple):
    """The group and the public value."""

    p: int
    q: int
    g: int
    y: int

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        return cls(_integer(cursor), _integer(cursor), _integer(cursor), _integer(cursor))

    def checker(self) -> Check:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import dsa

        group = dsa.DSAParameterNumbers(self.p, self.q, self.g)
        verify = dsa.DSAPublicNumbers(self.y, group).public_key().verify

        def check(numbers: bytes, digest: bytes, hash_algorithm: int) -> bool:
            try:
                verify(_der_pair(numbers), digest, _prehashed(hash_algorithm))
            except InvalidSignature:
                return False
            return True

        return check

    def signer(self, secret: Cursor) -> Sign:
        from cryptography.hazmat.primitives.asymmetric import dsa

        group = dsa.DSAParameterNumbers(self.p, self.q, self.g)
        public = dsa.DSAPublicNumbers(self.y, group)
        key = dsa.DSAPrivateNumbers(_integer(secret), public).private_key()
        return lambda digest: _pair_of_der(key.sign(digest, _prehashed(SHA256)))


class EcdsaMaterial(NamedTuple):
    """The object identifier of the curve, and the public point."""

    curve: bytes
    point: bytes

    @classmethod
    def read(cls, cursor: Cursor) -> Self:
        curve = cursor.take(cursor.byte())
        if curve not in _CURVES:
            raise Unsupported("use", "public key", f"curve {curve.hex()}: not a NIST P curve")
        return cls(curve, cursor.number())

    def checker(self) -> Check:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ec

        verify = self._public_key().verify

        def check(numbers: bytes, digest: bytes, hash_algorithm: int) -> bool:
            try:
                verify(_der_pair(numbers), digest, ec.ECDSA(_prehashed(hash_algorithm)))
            except InvalidSignature:
                return False
            return True

        return check

    def signer(self, secret: Cursor) -> Sign:
        from cryptography.hazmat.primitives.asymmetric import ec

        public = self._public_key().public_numbers()
        key = ec.EllipticCurvePrivateNumbers(_integer(secret), public).private_key()
        algorithm = _repeatable_ecdsa()
        return lambda digest: _pair_of_der(key.sign(digest, algorithm))

    def _public_key(self) -> "ec.EllipticCurvePublicKey":
        from cryptography.hazmat.primitives.asymmetric import ec

        curve: ec.EllipticCurve = getattr(ec, _CURVES[self.curve])()
        if self.point[:1] != b"\x04":
            raise ValueError("the point is not in its uncompressed form")
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, self.point)


MATERIALS: Final[Mapping[int, type[Material]]] = {
    RSA: RsaMaterial,
    RSA_SIGN_ONLY: RsaMaterial,
    DSA: DsaMaterial,
    ECDSA: EcdsaMaterial,
}
"""The algorithms that may sign claims."""


def _integer(cursor: Cursor) -> int:
    return int.from_bytes(cursor.number(), "big")


@cache
def _padding() -> "padding.PKCS1v15":
    from cryptography.hazmat.primitives.asymmetric import padding

    return padding.PKCS1v15()


@cache
def _prehashed(hash_algorithm: int) -> "utils.Prehashed":
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import utils

    return utils.Prehashed(hashes.SHA256() if hash_algorithm == SHA256 else hashes.SHA1())  # noqa: S303


def _repeatable_ecdsa() -> "ec.ECDSA":
    """ECDSA with a nonce made from key and digest (RFC 6979) where OpenSSL can do it.

    Then a planned permanode has one ref with these keys too.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        return ec.ECDSA(_prehashed(SHA256), deterministic_signing=True)
    except UnsupportedAlgorithm:
        return ec.ECDSA(_prehashed(SHA256))


def _der_pair(numbers: bytes) -> bytes:
    """The two numbers of a DSA or ECDSA signature, in the encoding of the library."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    cursor = Cursor(numbers, "DSA signature")
    return encode_dss_signature(_integer(cursor), _integer(cursor))


def _pair_of_der(signature: bytes) -> tuple[bytes, ...]:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    return tuple(
        number.to_bytes((number.bit_length() + 7) // 8, "big")
        for number in decode_dss_signature(signature)
    )
