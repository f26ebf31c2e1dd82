import ipaddress
from collections.abc import Iterator

import pytest
from starlette.requests import Request

from peatkeep.server.peers import (
    End,
    LocalPeers,
    Socket,
    _end_of_row,
    is_literal_host,
    kernel_sockets,
    owner_of,
)

OURS, THEIRS = ("127.0.0.1", 3179), ("127.0.0.1", 40000)


def request(host: str = "localhost:3179", **headers: str) -> Request:
    sent = {"host": host, **headers}
    return Request(
        {
            "type": "http",
            "method": "GET",
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in sent.items()],
            "client": THEIRS,
            "server": OURS,
            "connection": {},
        }
    )


def end(address: tuple[str, int]) -> End:
    return End(ipaddress.ip_address(address[0]), address[1])


def sockets_of(uid: int) -> Iterator[Socket]:
    yield Socket(end(("10.0.0.1", 1)), end(("10.0.0.2", 2)), 0)
    yield Socket(end(THEIRS), end(OURS), uid)


def peers(owner: int, ours: int = 1000, **environ: str) -> LocalPeers:
    return LocalPeers(environ, lambda: sockets_of(owner), uid=ours)


def test_a_process_of_our_own_user_is_our_own() -> None:
    assert peers(1000).is_own(request())


def test_a_process_of_root_is_our_own() -> None:
    assert peers(0).is_own(request())


def test_a_process_of_another_user_is_not() -> None:
    assert not peers(1001).is_own(request())


def test_a_server_of_root_trusts_nobody_outside_a_container(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("peatkeep.server.peers._CONTAINER_MARKS", ())
    assert not peers(0, ours=0).is_own(request())
    assert peers(0, ours=0, PK_IN_CONTAINER="1").is_own(request())


@pytest.mark.parametrize(
    "host", ["example.com:3179", "localhost", "127.0.0.1", "evil.localhost:1", ""]
)
def test_a_host_that_is_a_name_or_has_no_port_is_not_trusted(host: str) -> None:
    assert not is_literal_host(host)
    assert not peers(1000).is_own(request(host))


@pytest.mark.parametrize("host", ["localhost:3179", "127.0.0.1:80", "[::1]:3179"])
def test_localhost_and_addresses_with_a_port_are_trusted(host: str) -> None:
    assert is_literal_host(host)


@pytest.mark.parametrize("name", ["x_forwarded_for", "via", "forwarded", "x_real_ip"])
def test_what_a_proxy_passes_on_is_not_our_own(name: str) -> None:
    assert not peers(1000).is_own(request(**{name: "1.2.3.4"}))


def test_the_table_is_read_once_for_a_connection() -> None:
    reads = []

    def table() -> Iterator[Socket]:
        reads.append(1)
        return sockets_of(1000)

    known = LocalPeers({}, table, uid=1000)
    first = request()
    assert known.is_own(first)
    assert known.is_own(first)
    assert len(reads) == 1


def test_a_connection_that_the_kernel_does_not_know_has_no_owner() -> None:
    assert owner_of(end(("127.0.0.1", 1)), end(OURS), sockets_of(1000)) is None


def test_addresses_of_the_kernel_are_read_in_its_byte_order() -> None:
    assert _end_of_row("0100007F:0C6B") == end(("127.0.0.1", 3179))
    assert _end_of_row("0000000000000000FFFF00000100007F:0C6B") == end(("127.0.0.1", 3179))
    assert _end_of_row("00000000000000000000000001000000:0016") == end(("::1", 22))


def test_the_table_of_this_machine_can_be_read() -> None:
    assert all(isinstance(row, Socket) for row in kernel_sockets())
