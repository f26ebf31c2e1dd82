"""All blobs of a store as a tar archive over HTTP."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.storage import StreamedBlob
from peatkeep.blobserver.tarstream import CONTINUE, TOKEN_EVERY_BYTES, archive

from .running import RunningServer, running_server

CONTENTS = [b"", b"a", b"b" * 512, b"c" * 70_000, *(b"%d" % number for number in range(20))]
URL = "/bs/camli/blobs.tar"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("packed"), packBlobs=True) as server:
        server.upload("/bs/", *CONTENTS)
        yield server


def members(body: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        found = []
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            found.append((member.name, file.read()))
        return found


def blobs(body: bytes) -> list[tuple[str, bytes]]:
    return [member for member in members(body) if member[0] != CONTINUE]


def test_all_blobs_come_as_files_named_by_their_refs(packed: RunningServer) -> None:
    reply = packed.ask("GET", URL)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/x-tar")
    found = dict(blobs(reply.body))
    assert {str(Ref.of(data)): data for data in CONTENTS}.items() <= found.items()
    assert all(Ref(name).matches(data) for name, data in found.items())


def test_an_archive_that_ends_early_is_gone_on_with(packed: RunningServer) -> None:
    whole = blobs(packed.ask("GET", URL).body)
    pieces: list[tuple[str, bytes]] = []
    token = ""
    for _ in whole:
        found = members(packed.ask("GET", f"{URL}?limit=1&token={token.replace(' ', '+')}").body)
        pieces += [member for member in found if member[0] != CONTINUE]
        last = found[-1] if found else ("", b"")
        if last[0] != CONTINUE:
            break
        token = last[1].decode()
    assert pieces == whole


def test_what_is_no_token_is_refused(packed: RunningServer) -> None:
    assert packed.ask("GET", f"{URL}?token=junk").status == 400


def test_head_says_what_it_would_be(packed: RunningServer) -> None:
    reply = packed.ask("HEAD", URL)
    assert (reply.status, reply.body) == (200, b"")


def test_tokens_come_again_and_again_and_the_end_is_marked(tmp_path: Path) -> None:
    data = bytes(TOKEN_EVERY_BYTES // 4)
    stream = [StreamedBlob(f"token {number}", Ref.of(data), data) for number in range(9)]
    file = tmp_path / "blobs.tar"
    file.write_bytes(b"".join(archive(stream)))
    with tarfile.open(file) as tar:
        names = tar.getnames()
    ref = str(Ref.of(data))
    assert names == [CONTINUE, *[ref] * 4, CONTINUE, *[ref] * 4, CONTINUE, ref]
    assert file.read_bytes().endswith(bytes(1024))


def test_an_empty_store_is_an_empty_archive() -> None:
    assert members(b"".join(archive([]))) == []
