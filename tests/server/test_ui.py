import hashlib

from peatkeep.blob import Ref
from peatkeep.schema.filereader import FileReader

from . import stored
from .running import BOUNDARY, Reply, RunningServer
from .stored import store_of

UPLOAD = "/ui/?camli.mode=uploadhelper"


def send(server: RunningServer, *parts: tuple[str, str, bytes]) -> Reply:
    """Send a form of (field name, file name or "", content)."""
    pieces = []
    for name, file_name, content in parts:
        quoted = f'; filename="{file_name}"' if file_name else ""
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{quoted}\r\n\r\n'
        pieces.append(head.encode() + content + b"\r\n")
    body = b"".join(pieces) + f"--{BOUNDARY}--\r\n".encode()
    return server.ask(
        "POST", UPLOAD, body, Content_Type=f"multipart/form-data; boundary={BOUNDARY}"
    )


def test_a_large_file_by_form_comes_back(server: RunningServer) -> None:
    content = hashlib.shake_256(b"form").digest(5_000_000)
    reply = send(server, ("f", "big.bin", content), ("g", "small", b"2"))
    refs = [Ref(entry["fileref"]) for entry in reply.json["got"]]
    storage = store_of(server)
    assert FileReader(storage, refs[0]).read(0, 6_000_000) == content
    assert FileReader(storage, refs[1]).read(0, 10) == b"2"
    assert server.ask("GET", f"/ui/download/{refs[0]}").body == content


def test_a_file_by_form_is_indexed(server: RunningServer) -> None:
    reply = send(server, ("f", "indexed.txt", b"indexed by form"))
    whole = Ref.of(b"indexed by form")
    files = server.ask("GET", f"/my-search/camli/search/files?wholedigest={whole}").json["files"]
    assert files[whole] == [reply.json["got"][0]["fileref"]]


def test_a_path_in_a_file_name_is_cut_off(server: RunningServer) -> None:
    for name in ("C:\\\\Users\\\\a.txt", "/etc/a.txt", "etc/a.txt/"):
        got = send(server, ("f", name, b"x")).json["got"]
        assert got[0]["filename"] == "a.txt"


def test_a_file_name_may_come_in_its_extended_form(server: RunningServer) -> None:
    head = "form-data; name=\"f\"; filename*=UTF-8''na%C3%AFve.txt"
    body = f"--{BOUNDARY}\r\nContent-Disposition: {head}\r\n\r\nx\r\n--{BOUNDARY}--\r\n"
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    reply = server.ask("POST", UPLOAD, body.encode(), Content_Type=kind)
    assert reply.json["got"][0]["filename"] == "naïve.txt"


def test_a_form_that_breaks_off_names_no_file(server: RunningServer) -> None:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
    reply = server.ask(
        "POST",
        UPLOAD,
        head.encode() + b"broken off",
        Content_Type=f"multipart/form-data; boundary={BOUNDARY}",
    )
    assert reply.status == 500
    assert reply.json["error"] == "writing to blobserver: unexpected EOF"


def test_a_large_directory_is_listed_in_its_order(server: RunningServer) -> None:
    storage = store_of(server)
    refs = [stored.file(storage, f"{number:03}", b"") for number in range(60)]
    folder = stored.directory(storage, "many", refs)
    children = server.ask("GET", f"/ui/tree/{folder}").json["children"]
    assert [child["blobRef"] for child in children] == refs
    assert children[7] == {"name": "007", "type": "file", "blobRef": refs[7]}


def test_a_name_that_is_no_text_is_shown_all_the_same(server: RunningServer) -> None:
    storage = store_of(server)
    ref = stored.file(storage, "<b>&\u2028", b"odd")
    folder = stored.directory(storage, "odd", [ref])
    reply = server.ask("GET", f"/ui/tree/{folder}")
    assert b"<b>" not in reply.body
    assert reply.json["children"][0]["name"] == "<b>&\u2028"


def test_an_import_without_a_share_is_refused_and_nothing_runs(server: RunningServer) -> None:
    assert server.form("/ui/importshare", "").status == 400
    assert server.ask("GET", "/ui/importshare").json["Running"] is False
