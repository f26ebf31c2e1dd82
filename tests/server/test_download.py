import hashlib

from peatkeep.blob import Ref
from peatkeep.schema.text import encode
from peatkeep.server.download import attachment

from . import stored
from .running import RunningServer
from .stored import store_of

HTML = b"<html><script>document.title = 1</script></html>\n"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" onload="x()"></svg>\n'


def test_a_file_of_many_chunks_comes_whole_and_in_parts(server: RunningServer) -> None:
    content = hashlib.shake_256(b"download").digest(3_000_000)
    ref = stored.file(store_of(server), "big.bin", content)
    assert server.ask("GET", f"/ui/download/{ref}").body == content
    reply = server.ask("GET", f"/ui/download/{ref}", Range="bytes=1000000-2000000")
    assert (reply.status, reply.body) == (206, content[1000000:2000001])
    reply = server.ask("GET", f"/ui/download/{ref}", Range="bytes=0-9,-10")
    assert reply.headers["content-type"].startswith("multipart/byteranges")
    assert content[:10] in reply.body
    assert content[-10:] in reply.body
    assert int(reply.headers["content-length"]) == len(reply.body)


def test_a_page_or_picture_shown_inline_can_run_nothing(server: RunningServer) -> None:
    for name, content in (("x.html", HTML), ("x.svg", SVG)):
        ref = stored.file(store_of(server), name, content)
        headers = server.ask("GET", f"/ui/download/{ref}?inline=1").headers
        assert headers["content-security-policy"].startswith("sandbox;")
        assert "allow-scripts" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_a_file_that_lacks_a_chunk_is_refused_before_its_first_byte(server: RunningServer) -> None:
    storage = store_of(server)
    there, lacking = stored.put(storage, b"there"), Ref.of(b"lacking")
    parts = [{"blobRef": there, "size": 5}, {"blobRef": lacking, "size": 7}]
    ref = stored.put(storage, encode({"camliType": "file", "fileName": "h", "parts": parts}))
    reply = server.ask("GET", f"/ui/download/{ref}")
    assert reply.status == 500
    assert lacking in reply.body.decode()
    assert server.ask("GET", f"/ui/download/{ref}", Range="bytes=0-3").body == b"ther"


def test_a_file_whose_first_chunk_is_damaged_is_refused_before_its_first_byte(
    server: RunningServer,
) -> None:
    ref = stored.file(store_of(server), "d", b"will be damaged")
    path = next((server.data / "blobs").rglob(f"{Ref.of(b'will be damaged')}.dat"))
    path.write_bytes(b"has been damaged")
    reply = server.ask("GET", f"/ui/download/{ref}")
    assert reply.status == 500
    assert b"has been" not in reply.body


def test_only_contents_that_are_all_there_are_vouched_for(server: RunningServer) -> None:
    storage = store_of(server)
    whole = Ref.of(b"vouched for")
    ref = stored.file(storage, "v", b"vouched for")
    path = f"/ui/download/{ref}/?verifycontents={whole}"
    assert server.ask("HEAD", path).headers["x-camli-contents"] == whole
    next((server.data / "blobs").rglob(f"{whole}.dat")).unlink()
    reply = server.ask("HEAD", path)
    assert (reply.status, "x-camli-contents" in reply.headers) == (200, False)


def test_a_part_of_a_file_is_no_file(server: RunningServer) -> None:
    storage = store_of(server)
    parts = [{"blobRef": stored.put(storage, b"part"), "size": 4}]
    ref = stored.put(storage, encode({"camliType": "bytes", "parts": parts}))
    reply = server.ask("GET", f"/ui/download/{ref}")
    assert (reply.status, reply.body) == (400, b"Not a regular file\n")


def test_a_file_that_lies_about_its_size_is_an_error(server: RunningServer) -> None:
    storage = store_of(server)
    parts = [{"blobRef": stored.put(storage, b"short"), "size": 500}]
    lying = encode({"camliType": "file", "fileName": "l", "parts": parts})
    server.upload("/bs/", lying)
    assert server.ask("GET", f"/ui/download/{Ref.of(lying)}").status == 500


def test_an_odd_file_name_cannot_leave_its_quotes() -> None:
    assert attachment("hello.txt") == "attachment; filename=hello.txt"
    assert attachment('a"; x=1\r\nSet-Cookie: b') == (
        'attachment; filename="a_; x=1__Set-Cookie: b";'
        " filename*=UTF-8''a%22%3B%20x%3D1%0D%0ASet-Cookie%3A%20b"
    )
    assert attachment("Übersicht.txt").endswith("filename*=UTF-8''%C3%9Cbersicht.txt")


def test_an_empty_file_is_sent(server: RunningServer) -> None:
    ref = stored.file(store_of(server), "empty", b"")
    reply = server.ask("GET", f"/ui/download/{ref}")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")
    assert server.ask("GET", f"/ui/download/{ref}", Range="bytes=0-1").status == 200


def test_text_is_told_from_other_content_only_inline(server: RunningServer) -> None:
    ref = stored.file(store_of(server), "t.bin", "grün\n".encode() * 1000)
    assert server.ask("GET", f"/ui/download/{ref}").headers["content-type"].endswith("octet-stream")
    inline = server.ask("GET", f"/ui/download/{ref}?inline=1").headers
    assert (inline["content-type"], inline["content-disposition"]) == ("text/plain", "inline")
