import io
import zipfile

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.schema.text import encode

from . import stored
from .running import Reply, RunningServer
from .stored import store_of


def zipped(server: RunningServer, *refs: str) -> Reply:
    return server.form("/ui/download/", f"files={','.join(refs)}")


def names(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.body
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_a_tree_is_zipped_with_its_paths(server: RunningServer) -> None:
    storage = store_of(server)
    content = bytes(range(256)) * 8000
    inner = stored.directory(storage, "in", [stored.file(storage, "big", content)])
    empty = stored.directory(storage, "empty", [])
    top = stored.directory(storage, "top", [stored.file(storage, "a", b"1"), inner, empty])
    reply = zipped(server, top)
    assert sorted(names(reply)) == ["top/a", "top/empty/", "top/in/big"]
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert archive.read("top/in/big") == content


def test_a_file_that_is_asked_for_twice_is_there_twice(server: RunningServer) -> None:
    storage = store_of(server)
    ref = stored.file(storage, "same", b"same")
    folders = [stored.directory(storage, name, [ref]) for name in ("x", "y")]
    assert sorted(names(zipped(server, ref, *folders))) == ["same", "x/same", "y/same"]


def test_different_files_of_one_name_all_get_a_place(server: RunningServer) -> None:
    storage = store_of(server)
    refs = [stored.file(storage, "n.txt", text) for text in (b"1", b"2", b"3")]
    assert names(zipped(server, *refs)) == ["n.txt", "n (2).txt", "n (3).txt"]


def test_no_name_leads_out_of_the_folder_it_is_unpacked_in(server: RunningServer) -> None:
    storage = store_of(server)
    odd = ["..", "../../etc/passwd", "/root/x", "a\\..\\b"]
    members = [stored.file(storage, name, name.encode()) for name in odd]
    found = names(zipped(server, stored.directory(storage, "..", members)))
    assert len(found) == len(odd)
    for name in found:
        assert not name.startswith("/")
        assert ".." not in name.split("/")
        assert "\\" not in name


def test_a_zip_that_would_lack_something_is_refused(server: RunningServer) -> None:
    storage = store_of(server)
    parts = [{"blobRef": Ref.of(b"never stored"), "size": 12}]
    hole = stored.put(storage, encode({"camliType": "file", "fileName": "h", "parts": parts}))
    whole = stored.file(storage, "whole", b"whole")
    reply = zipped(server, stored.directory(storage, "d", [whole, hole]))
    assert reply.status == 500
    assert hole in reply.body.decode()


def test_a_directory_in_a_circle_cannot_be_made_and_a_deep_one_is_refused(
    server: RunningServer,
) -> None:
    storage = Memory()
    ref = stored.file(storage, "bottom", b"bottom")
    for _ in range(203):
        ref = stored.directory(storage, "d", [ref])
    store_of(server).receive_many((blob.ref, blob.data) for blob in storage.stream())
    assert zipped(server, ref).status == 500
