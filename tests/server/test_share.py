import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.schema import claims
from peatkeep.schema.keyring import create_key, read_ring
from peatkeep.schema.text import encode

from . import stored
from .running import RunningServer, running_server
from .stored import own_key, store_of


def get(server: RunningServer, *chain: str, query: str = "") -> int:
    """The status for the last ref of the chain, asked for without credentials."""
    via = ",".join(chain[:-1])
    path = f"/share/{chain[-1]}?via={via}{query}" if via else f"/share/{chain[-1]}"
    return server.ask("GET", path, auth="").status


def shared(server: RunningServer, target: Ref, *, transitive: bool = True) -> Ref:
    members = claims.share(target, transitive=transitive)
    return stored.claim(store_of(server), own_key(server), members)


def test_a_shared_file_is_read_link_by_link(server: RunningServer) -> None:
    ref = stored.file(store_of(server), "a.txt", b"shared content")
    share = shared(server, ref)
    chunk = Ref.of(b"shared content")
    assert get(server, share) == get(server, share, ref) == get(server, share, ref, chunk) == 200


def test_a_shared_file_is_read_whole(server: RunningServer) -> None:
    ref = stored.file(store_of(server), "b.txt", b"shared whole")
    share = shared(server, ref)
    reply = server.ask("GET", f"/share/{ref}?via={share}&assemble=1", auth="")
    assert (reply.status, reply.body) == (200, b"shared whole")


def test_what_is_not_linked_is_refused(server: RunningServer) -> None:
    storage = store_of(server)
    ref, other = stored.file(storage, "c.txt", b"one"), stored.file(storage, "d.txt", b"two")
    share = shared(server, ref)
    assert get(server, share, other) == 401
    assert get(server, share, ref, Ref.of(b"two")) == 401
    assert get(server, ref) == 401


def test_a_forged_share_opens_nothing(server: RunningServer) -> None:
    storage = store_of(server)
    ref = stored.file(storage, "secret.txt", b"not for you")
    text = {"camliType": "claim", "claimType": "share", "authType": "haveref", "target": ref}
    text |= {"camliSigner": own_key(server).public_ref, "claimDate": "2024-01-02T03:04:05Z"}
    forged = encode({**text, "transitive": True})[:-1] + b',"camliSig":"bogus"}\n'
    # By the plain prefix, which takes everything.
    server.upload("/bs/", forged)
    assert get(server, Ref.of(forged), ref) == 401
    assert get(server, Ref.of(forged)) == 401


def test_a_share_by_another_than_the_owner_opens_nothing(server: RunningServer) -> None:
    storage = store_of(server)
    ref = stored.file(storage, "mine.txt", b"mine")
    stranger = read_ring(create_key())[0]
    share = stored.claim(storage, stranger, claims.share(ref, transitive=True))
    assert get(server, share, ref) == 401


def test_a_share_that_has_expired_opens_nothing(server: RunningServer) -> None:
    storage = store_of(server)
    ref = stored.file(storage, "old.txt", b"old")
    expired = claims.share(ref, expires_ns=time.time_ns() - 1_000_000_000)
    assert get(server, stored.claim(storage, own_key(server), expired), ref) == 401


def test_a_deleted_share_stays_deleted_after_a_restart(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        storage = store_of(server)
        ref = stored.file(storage, "gone.txt", b"gone")
        share = shared(server, ref)
        assert get(server, share, ref) == 200
        stored.claim(storage, own_key(server), claims.delete(share))
        assert get(server, share, ref) == 401
    with running_server(tmp_path) as server:
        assert get(server, share, ref) == 401


def test_a_stranger_can_neither_take_a_share_back_nor_bring_it_back(server: RunningServer) -> None:
    storage = store_of(server)
    ref = stored.file(storage, "mine.txt", b"mine still")
    stranger = read_ring(create_key())[0]
    share = shared(server, ref)
    stored.claim(storage, stranger, claims.delete(share))
    assert get(server, share, ref) == 200
    delete = stored.claim(storage, own_key(server), claims.delete(share))
    stored.claim(storage, stranger, claims.delete(delete))
    assert get(server, share, ref) == 401
    stored.claim(storage, own_key(server), claims.delete(delete))
    assert get(server, share, ref) == 200


def test_a_large_directory_is_shared_whole(server: RunningServer) -> None:
    """One with more members than a set holds is a set of sets."""
    storage = store_of(server)
    ref = stored.file(storage, "member", b"in a merged set")
    subset = stored.put(storage, encode({"camliType": "static-set", "members": [ref]}))
    top = stored.put(storage, encode({"camliType": "static-set", "mergeSets": [subset]}))
    folder = stored.put(storage, encode({"camliType": "directory", "entries": top}))
    share = shared(server, folder)
    assert get(server, share, folder, top, subset, ref) == 200


def test_every_refusal_takes_its_time(server: RunningServer) -> None:
    existing, absent = stored.file(store_of(server), "there.txt", b"there"), Ref.of(b"absent")
    for chain in ([existing], [absent], [absent, existing], ["zzz", existing]):
        started = time.monotonic()
        assert get(server, *chain) in (400, 401)
        assert time.monotonic() - started >= 0.2


def test_any_page_may_read_what_is_shared(server: RunningServer) -> None:
    ref = stored.file(store_of(server), "cors.txt", b"cors")
    share = shared(server, ref)
    reply = server.ask(
        "GET", f"/share/{share}", auth="", Origin="http://example.com", Sec_Fetch_Site="cross-site"
    )
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "*")


def test_a_shared_page_runs_nothing(server: RunningServer) -> None:
    ref = stored.file(store_of(server), "x.html", b"<html><script>1</script></html>\n")
    share = shared(server, ref)
    reply = server.ask("GET", f"/share/{ref}?via={share}&assemble=1", auth="")
    assert reply.headers["content-security-policy"].startswith("sandbox;")


def test_credentials_are_not_looked_at(server: RunningServer) -> None:
    ref = stored.file(store_of(server), "e.txt", b"own")
    assert server.ask("GET", f"/share/{ref}").status == 401


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    yield
    assert threading.active_count() < 200
