"""The async face of the client against our server, over the stream and over plain requests."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.remote import FREE_LINE
from peatkeep.blobserver.wire import events
from peatkeep.clients.aio import AsyncClient
from peatkeep.clients.aio.stream import AsyncStream
from peatkeep.clients.client import Client
from peatkeep.clients.config import ClientConfig, ServerEntry
from peatkeep.errors import Forbidden, Invalid, NotFound, Unavailable, Unsupported
from tests.blobserver.remotes import blobs
from tests.independent import stream as independent
from tests.independent.websocket import messages
from tests.proxy import Line, line_to
from tests.server.running import RunningServer, running_server
from tests.server.stored import file, store_of
from tests.server.streaming import PLACE
from tests.waiting import GUARD_S

Result = TypeVar("Result")
Work = Callable[[AsyncClient], Awaitable[Result]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def line(server: RunningServer) -> Iterator[Line]:
    with line_to(server.url) as line:
        yield line


def client_to(url: str, auth: str, environ: dict[str, str] | None = None, **line: object) -> Client:
    wanted = FREE_LINE._replace(**line)  # type: ignore[arg-type]
    return Client(ServerEntry(url, auth), ClientConfig(), environ=environ, line=wanted)


@asynccontextmanager
async def opened(client: Client) -> AsyncIterator[AsyncClient]:
    async with asyncio.timeout(GUARD_S), AsyncClient(client) as opened:
        yield opened


def run(client: Client, work: Work[Result]) -> Result:
    async def body() -> Result:
        async with opened(client) as asynchronous:
            return await work(asynchronous)

    return asyncio.run(body())


def stream_of(client: AsyncClient) -> AsyncStream:
    stream = client._blobs
    assert isinstance(stream, AsyncStream)
    return stream


@pytest.fixture(params=["stream", "stream, zstd", "requests"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Client:
    if request.param == "requests":
        return client_to(server.url, server.auth, {"PK_STREAM": "0"})
    level = 1 if "zstd" in request.param else None
    return client_to(server.url, server.auth, compress=level)


def test_blobs_go_in_and_come_back_in_the_order_asked_for(client: Client) -> None:
    sent = [*blobs(100, 3_000, 1), *blobs(2, 1_000_000, 2), (Ref.of(b"a" * 90), b"a" * 90)]
    random.Random(3).shuffle(sent)
    absent = Ref.of(b"nobody has this")

    async def work(client: AsyncClient) -> None:
        await client.put_blobs(sent)
        assert await client.put_blob(sent[0][1]) == sent[0][0]
        refs = [*(ref for ref, _ in sent[:50]), absent, *(ref for ref, _ in sent[50:])]
        found = [each async for each in client.fetch_many(refs)]
        assert isinstance(found.pop(50)[1], NotFound)
        assert found == sent
        assert len(await client.stat(refs)) == len(sent)
        assert await client.fetch(sent[7][0]) == sent[7][1]
        with pytest.raises(NotFound):
            await client.fetch(absent)
        with pytest.raises(Invalid):
            await client.put_blobs([sent[0], (absent, b"other bytes")])

    run(client, work)


def test_ranges_of_a_file_are_read(client: Client, server: RunningServer) -> None:
    content = random.Random(5).randbytes(2_000_000)
    ref = file(store_of(server), "large", content)

    async def work(client: AsyncClient) -> None:
        for offset, length in [(0, None), (1_234_567, None), (500_000, 777), (2_000_000, None)]:
            end = None if length is None else offset + length
            pieces = [piece async for piece in client.read_file(ref, offset, length)]
            assert b"".join(pieces) == content[offset:end]
        with pytest.raises(NotFound):
            async for _ in client.read_file(Ref.of(b"no file")):
                pass

    run(client, work)


def test_a_tree_is_put_and_is_known_by_the_next(
    client: Client, server: RunningServer, tmp_path: Path
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(random.Random(6).randbytes(300_000))

    async def work(client: AsyncClient) -> None:
        ref = await client.put(bytes(tmp_path / "tree"))
        assert [found.ref for found in await client.stat([ref])] == [ref]

    run(client, work)


def test_a_put_of_a_tree_that_is_cancelled_ends(
    server: RunningServer, tmp_path: Path, line: Line
) -> None:
    (tmp_path / "large").write_bytes(random.Random(7).randbytes(5_000_000))
    line.rate = 100_000

    async def work(client: AsyncClient) -> None:
        await client.stat([Ref.of(b"")])
        before = line.up_bytes
        putting = asyncio.create_task(client.put(bytes(tmp_path / "large")))
        while line.up_bytes < before + 50_000:
            await asyncio.sleep(0.01)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert line.up_bytes < before + 4_000_000

    run(client_to(line.url, server.auth), work)


def test_many_tasks_share_one_connection(server: RunningServer, line: Line) -> None:
    sent = blobs(300, 2_000, 8)

    async def work(client: AsyncClient) -> None:
        refs = await asyncio.gather(*(client.put_blob(data) for _, data in sent))
        assert refs == [ref for ref, _ in sent]
        assert await asyncio.gather(*(client.fetch(ref) for ref in refs)) == [d for _, d in sent]
        assert stream_of(client).connections == 1

    run(client_to(line.url, server.auth), work)


def frames(line: Line, way: str) -> list[dict[str, object]]:
    """What one end has said on the stream, by the page alone."""
    wire = b"".join(data for one, data in line.captured or [] if one == way)
    return [each for message in messages(wire, PLACE) for each in independent.decode(message)]


def test_who_is_cancelled_stops_what_it_asked(server: RunningServer, line: Line) -> None:
    sent = blobs(60, 100_000, 9)
    line.captured = []

    async def work(client: AsyncClient) -> None:
        await client.put_blobs(sent)
        ref = file(store_of(server), "large", b"".join(data for _, data in sent))

        async def read_slowly() -> None:
            async for _ in client.read_file(ref):
                begun.set()
                await asyncio.Event().wait()

        async def fetch() -> None:
            async for _ in client.fetch_many([ref for ref, _ in sent]):
                begun.set()
                await asyncio.Event().wait()

        for reader in (read_slowly, fetch):
            begun = asyncio.Event()
            task = asyncio.create_task(reader())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await client.fetch(sent[0][0]) == sent[0][1]

    run(client_to(line.url, server.auth), work)
    asked = {each["request"]: each["type"] for each in frames(line, "up") if each["type"] == "FILE"}
    asked |= {e["request"]: e["type"] for e in frames(line, "up") if e["type"] == "FETCH"}
    stopped = [asked[each["request"]] for each in frames(line, "up") if each["type"] == "STOP"]
    assert stopped == ["FILE", "FETCH"]


def test_an_upload_that_is_cancelled_is_given_up_and_others_go_on(
    server: RunningServer, line: Line
) -> None:
    large = random.Random(10).randbytes(15_000_000)
    line.captured = []

    async def work(client: AsyncClient) -> None:
        await client.stat([Ref.of(b"")])
        line.rate = 3_000_000
        before = line.up_bytes
        putting = asyncio.create_task(client.put_blob(large))
        while line.up_bytes < before + 500_000:
            await asyncio.sleep(0.01)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        ref = await client.put_blob(b"another")
        assert await client.fetch(ref) == b"another"
        assert await client.stat([Ref.of(large)]) == []

    run(client_to(line.url, server.auth), work)
    assert any(each.get("abort") for each in frames(line, "up"))


def test_after_cuts_everything_goes_on_where_it_was(server: RunningServer, line: Line) -> None:
    sent = blobs(200, 50_000, 11)
    dice = random.Random(12)
    line.on_cut = lambda: line.up_bytes + line.down_bytes + dice.randint(200_000, 3_000_000)

    async def work(client: AsyncClient) -> None:
        await client.stat([Ref.of(b"")])
        stream = stream_of(client)
        line.cut_after = line.up_bytes + line.down_bytes + 1_000_000
        await client.put_blobs(sent)
        assert stream.connections > 2
        found = [each async for each in client.fetch_many([ref for ref, _ in sent])]
        line.cut_after = None
        assert found == sent

    run(client_to(line.url, server.auth), work)


def test_a_subscriber_hears_of_blobs_also_after_a_cut(server: RunningServer, line: Line) -> None:
    sent = blobs(20, 100, 13)

    async def work(client: AsyncClient) -> None:
        heard: set[Ref] = set()
        left = iter(sent)
        async with aclosing(client.watch()) as arrivals:
            async for event in arrivals:
                assert isinstance(event, events.Arrived)
                heard |= {found.ref for found in event.blobs}
                if heard >= {ref for ref, _ in sent}:
                    break
                if len(heard) >= 10 and stream_of(client).connections == 1:
                    await asyncio.to_thread(line.cut)
                for _, data in left:
                    server.upload("/bs-and-maybe-also-index/", data)
                    break
        assert stream_of(client).connections == 2

    run(client_to(line.url, server.auth), work)


def test_a_cursor_of_another_time_is_gone(server: RunningServer) -> None:
    async def work(client: AsyncClient) -> None:
        with pytest.raises(NotFound):
            async for _ in client.watch(cursor=b"long ago"):
                pass

    run(client_to(server.url, server.auth), work)


def test_without_a_stream_nothing_can_be_watched(server: RunningServer) -> None:
    async def work(client: AsyncClient) -> None:
        with pytest.raises(Unsupported):
            async for _ in client.watch():
                pass

    run(client_to(server.url, server.auth, {"PK_STREAM": "0"}), work)


def test_close_ends_what_runs(server: RunningServer, line: Line) -> None:
    async def work(client: AsyncClient) -> None:
        await client.stat([Ref.of(b"")])
        line.silence()
        waiting = asyncio.create_task(client.fetch(Ref.of(b"whatever")))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await client.fetch(Ref.of(b"whatever"))

    run(client_to(line.url, server.auth), work)


def test_wrong_credentials_and_absent_servers_are_told(server: RunningServer, line: Line) -> None:
    async def ask(client: AsyncClient) -> None:
        await client.fetch(Ref.of(b""))

    with pytest.raises(Forbidden):
        run(client_to(server.url, "userpass:alice:wrong"), ask)
    line.refuse()
    with pytest.raises(Unavailable):
        run(client_to(line.url, server.auth), ask)


def test_a_limit_is_kept_both_ways(server: RunningServer) -> None:
    sent = blobs(6, 50_000, 14)

    async def work(client: AsyncClient) -> None:
        await client.stat([Ref.of(b"")])
        loop = asyncio.get_running_loop()
        for work in (
            lambda: client.put_blobs(sent),
            lambda: asyncio.gather(*(client.fetch(ref) for ref, _ in sent)),
        ):
            began = loop.time()
            await work()
            # 300 kB at 400 kB/s, a burst and what the system holds apart. Never too slow to pass.
            assert loop.time() - began > 0.35

    run(client_to(server.url, server.auth, up_bytes_s=400_000, down_bytes_s=400_000), work)
