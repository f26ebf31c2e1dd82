from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.errors import Invalid, Unsupported
from peatkeep.schema import armor
from peatkeep.schema.openpgp import (
    Cursor,
    Packet,
    first_packet,
    packets,
    parse_signature,
    read_signature,
    write_number,
    write_packet,
)
from peatkeep.schema.publickey import read_public_key

CREATED = b"\x05\x02\0\0\0\0"


def signature(hashed: bytes, unhashed: bytes = b"") -> bytes:
    areas = b"".join(len(area).to_bytes(2, "big") + area for area in (hashed, unhashed))
    return b"\x04\x00\x01\x08" + areas + b"ab" + b"\0\x08\xff"


@given(st.integers(0, 63), st.binary(max_size=500))
def test_a_packet_is_read_as_it_was_written(tag: int, body: bytes) -> None:
    assert first_packet(write_packet(tag, body)) == Packet(tag, body)


@pytest.mark.parametrize("size", [0, 191, 192, 8383, 8384, 100_000])
def test_every_form_of_length_is_read(size: int) -> None:
    body = b"x" * size
    old = b"\x99" + size.to_bytes(2, "big") if size < 65536 else b"\x9a" + size.to_bytes(4, "big")
    data = write_packet(6, body) + old + body
    assert list(packets(data)) == [Packet(6, body), Packet(6, body)]


def test_only_the_first_packet_counts_where_one_is_wanted() -> None:
    assert first_packet(write_packet(2, b"x") + b"rubbish") == Packet(2, b"x")
    with pytest.raises(Invalid):
        list(packets(write_packet(2, b"x") + b"rubbish"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02\x01x",  # no header bit
        b"\xc2\x05abcd",  # cut short
        b"\xc2\xc0",  # cut in the length
        b"\xc2\xff\xff\xff\xff\xffx",  # 4 GB promised
        b"\xc2\xe1ab",  # partial length
        b"\x8bab",  # indeterminate length
    ],
)
def test_a_broken_packet_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        first_packet(data)


def test_a_signature_is_taken_apart() -> None:
    body = signature(CREATED)
    parsed = parse_signature(body)
    assert (parsed.type, parsed.key_algorithm, parsed.hash_algorithm) == (0, 1, 8)
    assert parsed.head == body[:12]
    assert parsed.digest_start == b"ab"
    assert Cursor(parsed.numbers, "test").number() == b"\xff"


@pytest.mark.parametrize("hashed", [CREATED, CREATED + b"\x09\x10abcdefgh", CREATED * 2])
@pytest.mark.parametrize("size", [1, 150, 170, 300])
def test_a_usual_signature_reads_as_any_other(hashed: bytes, size: int) -> None:
    body = signature(hashed) + b"n" * size
    packet = write_packet(2, body)
    assert read_signature(packet) == parse_signature(body)
    assert read_signature(packet + b"behind") == parse_signature(body)
    with pytest.raises(Invalid):
        read_signature(packet[:-1])


def test_another_packet_is_no_signature() -> None:
    with pytest.raises(Invalid, match="not an OpenPGP signature"):
        read_signature(write_packet(6, b"key"))


@pytest.mark.parametrize(
    ("hashed", "unhashed", "reason"),
    [
        (b"", b"", "no creation time"),
        (b"", CREATED, "no creation time"),
        (CREATED, CREATED, "outside the hashed area"),
        (b"\x04\x02\0\0\0", b"", "wrong length"),
        (CREATED + b"\x08\x10abcdefg", b"", "wrong length"),
        (CREATED, b"\x08\x10abcdefg", "wrong length"),
        (CREATED + b"\x02\xe4\x01", b"", "unknown critical type 100"),
        (CREATED, b"\x02\xe4\x01", "unknown critical type 100"),
        (CREATED + b"\0", b"", "empty"),
        (CREATED + b"\x09\x10", b"", "cut short"),
        (CREATED + b"\xff\xff\xff\xff\xff", b"", "cut short"),
    ],
)
def test_a_signature_with_bad_subpackets_is_refused(
    hashed: bytes, unhashed: bytes, reason: str
) -> None:
    with pytest.raises(Invalid, match=reason):
        parse_signature(signature(hashed, unhashed))


@pytest.mark.parametrize(
    "hashed",
    [
        CREATED + b"\x09\x10abcdefgh",
        CREATED + b"\x02\x64\x01",  # unknown, not critical
        b"\x05\x82\0\0\0\0" + b"\x05\x83\0\0\0\x01",  # known, critical
        b"\xc0\x09\x21" + b"x" * 200 + CREATED,  # length of two bytes
        b"\xff\0\0\0\x05\x02\0\0\0\0",  # length of four bytes
    ],
)
def test_a_signature_with_other_subpackets_is_read(hashed: bytes) -> None:
    assert parse_signature(signature(hashed)).head.endswith(hashed)


def test_a_signature_of_another_version_is_refused() -> None:
    with pytest.raises(Invalid, match="version 3"):
        parse_signature(b"\x03" + signature(CREATED)[1:])


@given(st.integers(0, 2**3000))
def test_a_number_is_read_as_it_was_written(number: int) -> None:
    assert int.from_bytes(Cursor(write_number(number), "test").number(), "big") == number


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"\x03\0\0\0\0\x01", Unsupported),  # version
        (b"\x06\0\0\0\0\x01", Unsupported),
        (b"\x04\0\0\0\0\x16", Unsupported),  # EdDSA
        (b"\x04\0\0\0\0\x13\x01\x2b", Unsupported),  # a curve of no standing
        (b"\x04\0\0\0\0\x13\x09\x2b", Invalid),
        (b"\x04\0\0", Invalid),
        (b"\x04\0\0\0\0\x01" + write_number(2**1022 + 1) + write_number(3), Unsupported),
        (b"\x04\0\0\0\0\x01" + write_number(2**16385 + 1) + write_number(3), Unsupported),
        (b"\x04\0\0\0\0\x01" + write_number(2**2047 + 1) + write_number(2**24 + 1), Unsupported),
    ],
)
def test_a_public_key_that_may_not_sign_is_refused(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read_public_key(Cursor(body, "test"))


@given(st.binary(max_size=300), st.sampled_from([1, 3, 17, 19]))
def test_any_numbers_make_a_key_or_a_clear_error(noise: bytes, algorithm: int) -> None:
    curve = b"\x08\x2a\x86\x48\xce\x3d\x03\x01\x07" if algorithm == 19 else b""
    cursor = Cursor(b"\x04\0\0\0\0" + bytes([algorithm]) + curve + noise, "test")
    try:
        read_public_key(cursor).accepts(noise, b"\0" * 32, 8)
    except (Invalid, Unsupported):
        pass


# -- armor --------------------------------------------------------------------------------------


@given(st.binary(max_size=2000))
def test_armor_gives_back_what_it_covers(data: bytes) -> None:
    text = armor.encode(armor.PRIVATE_KEY, data).encode()
    block = armor.Block(armor.PRIVATE_KEY, data, armor.checksum(data))
    assert block.is_intact
    assert list(armor.blocks(text)) == [block]
    crlf = b"words before\n" + text.replace(b"\n", b"\r\n") + b"\r\nwords after"
    assert list(armor.blocks(crlf)) == [block]
    twice = text + b"\n" + text
    assert list(armor.blocks(twice)) == [block, block]


def test_armor_with_headers_without_checksum_or_end_is_read() -> None:
    text = b"-----BEGIN PGP SIGNATURE-----\nVersion: x\nComment: a: b\n\nYWJj\n"
    assert list(armor.blocks(text)) == [armor.Block("PGP SIGNATURE", b"abc")]


def test_a_wrong_checksum_is_noted() -> None:
    text = armor.encode("PGP SIGNATURE", b"abc").replace(armor.checksum(b"abc"), "=AAAA")
    assert not next(armor.blocks(text.encode())).is_intact


def test_the_checksum_is_the_one_of_the_standard() -> None:
    assert armor.checksum(b"") == "=twTO"
    assert armor.checksum(b"123456789") == "=Ic8C"  # 0x21CF02, the usual check value


@pytest.mark.parametrize("text", [b"ab c=", b"abc", b"ab==cd==", b"a*bc"])
def test_base64_with_anything_else_in_it_is_refused(text: bytes) -> None:
    with pytest.raises(Invalid):
        armor.unbase64(text)


@given(st.binary(max_size=500), st.integers(0, 500), st.integers(0, 500))
def test_any_bytes_in_a_parser_end_in_a_value_or_a_clear_error(
    noise: bytes, start: int, end: int
) -> None:
    valid = armor.encode(armor.PUBLIC_KEY, write_packet(6, b"x" * 300)).encode()
    data = valid[:start] + noise + valid[end:]
    parsers: list[Callable[[bytes], object]] = [
        lambda data: list(packets(data)),
        lambda data: list(armor.blocks(data)),
        parse_signature,
        lambda data: read_public_key(Cursor(data, "test")),
    ]
    for parse in parsers:
        try:
            parse(data)
        except (Invalid, Unsupported):
            pass


@pytest.mark.parametrize(
    "unit",
    [
        b"-----BEGIN A-----\n",
        b"-----BEGIN A-----\na: b\n",
        b"-----BEGIN A-----\n\nYWJj\n",
        b"-----BEGIN A-----\n\n=YWJj   \t",
        b"   \t\r",
        b"=AAAA\n",
        b"a:\n",
        b":",
        b"\xc2\x00",
    ],
)
@pytest.mark.timeout(20)  # what is quadratic in the length takes minutes here
def test_long_odd_input_takes_time_in_proportion_to_its_length(unit: bytes) -> None:
    start = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    for data in (unit * (400_000 // len(unit)), start + unit * (400_000 // len(unit))):
        for parse in (lambda data: list(armor.blocks(data)), lambda data: list(packets(data))):
            try:
                parse(data)
            except Invalid:
                pass
