"""Parameters as Go's net/http gives them: of equal names the first, and where each may stand."""

import pytest

from peatkeep.blob import Ref

from .running import BOUNDARY, RunningServer

ROOT = "/bs-and-maybe-also-index/"
FORM = "application/x-www-form-urlencoded"
HERE, AWAY = Ref.of(b"here"), Ref.of(b"away")


@pytest.fixture(scope="module", autouse=True)
def _stored(server: RunningServer) -> None:
    server.upload(ROOT, b"here")


def part(name: str, value: str, more: str = "") -> str:
    disposition = f'Content-Disposition: form-data; name="{name}"{more}'
    return f"--{BOUNDARY}\r\n{disposition}\r\n\r\n{value}\r\n"


def found(server: RunningServer, query: str, body: str = "", kind: str = FORM) -> list[str]:
    """The refs that a stat finds."""
    path = f"{ROOT}camli/stat?{query}"
    reply = server.ask("POST", path, body.encode(), Content_Type=kind)
    assert reply.status == 200
    return [entry["blobRef"] for entry in reply.json["stat"]]


def test_of_a_repeated_parameter_the_first_counts(server: RunningServer) -> None:
    first = server.ask("GET", f"{ROOT}camli/enumerate-blobs?limit=1&limit=5").json
    assert len(first["blobs"]) == 1
    assert server.ask("GET", "/?camli.mode=config&camli.mode=x").status == 200
    wrapped = server.ask("GET", "/?camli.mode=config&cb=first&cb=second").body
    assert wrapped.startswith(b"first(")
    assert found(server, f"camliversion=1&blob1={HERE}&blob1={AWAY}") == [str(HERE)]
    assert found(server, f"camliversion=1&blob1={AWAY}&blob1={HERE}") == []


def test_an_urlencoded_body_counts_before_the_url(server: RunningServer) -> None:
    assert found(server, f"blob1={AWAY}", f"camliversion=1&blob1={HERE}") == [str(HERE)]


def test_a_multipart_body_counts_after_the_url(server: RunningServer) -> None:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    body = part("camliversion", "1") + part("blob1", str(AWAY)) + f"--{BOUNDARY}--\r\n"
    assert found(server, f"blob1={HERE}", body, kind) == [str(HERE)]
    assert found(server, "", body.replace(str(AWAY), str(HERE)), kind) == [str(HERE)]


def test_a_file_in_a_form_is_no_parameter(server: RunningServer) -> None:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    file = part("blob1", str(HERE), '; filename="x"')
    body = part("camliversion", "1") + file + f"--{BOUNDARY}--\r\n"
    assert found(server, "", body, kind) == []
