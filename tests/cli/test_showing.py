"""Answers as tables."""

import os
import subprocess
from pathlib import Path

from peatkeep.cli.searching import refusal
from peatkeep.cli.showing import (
    big_rows,
    claim_rows,
    columns,
    fact_rows,
    found_lines,
    found_rows,
    snippet,
)
from peatkeep.errors import Unavailable
from tests.e2e.machine import BIN, Machine
from tests.waiting import wait_until

NODE, FILE, DATA = (f"sha224-{digit * 56}" for digit in "123")
ANSWER = {
    "blobs": [{"blob": NODE}, {"blob": DATA}],
    "description": {
        "meta": {
            NODE: {
                "camliType": "permanode",
                "permanode": {
                    "attr": {"camliContent": [FILE], "tag": ["a", "b"]},
                    "modtime": "2026-01-02T03:04:05Z",
                },
            },
            FILE: {"file": {"fileName": "x.jpg", "time": "2024-05-06T07:08:09Z"}},
        }
    },
}


def test_a_result_is_told_by_its_content() -> None:
    assert list(found_rows(ANSWER)) == [
        ("2024-05-06 07:08", "x.jpg", "a, b", NODE),
        ("", "(data)", "", DATA),
    ]


def test_a_title_goes_before_the_name_of_the_file() -> None:
    node = {"camliType": "permanode", "permanode": {"attr": {"title": ["T"]}, "modtime": ""}}
    answer = {"blobs": [{"blob": NODE}], "description": {"meta": {NODE: node}}}
    assert [row[1] for row in found_rows(answer)] == ["T"]


def test_below_a_result_stands_where_the_words_were_found() -> None:
    answer = ANSWER | {"snippets": {NODE: ["a\n quick ", "fox", "\x1b[0m…"]}}
    lines = list(found_lines(answer))
    assert len(lines) == 4
    assert lines[2] == "    a quick \x1b[1mfox\x1b[0m\ufffd[0m…"
    assert snippet(["", "fox", ""]) == "\x1b[1mfox\x1b[0m"


def test_a_directory_is_told_by_what_is_below_it() -> None:
    tree = {"size": 1_260_000, "files": 3, "dirs": 1}
    meta = {NODE: {"dir": {"fileName": "d"}, "tree": tree}}
    answer = {"blobs": [{"blob": NODE}], "description": {"meta": meta}}
    assert list(big_rows(answer)) == [("1.3 MB", "3", "1", "d", NODE)]


def test_nothing_found_gives_no_rows() -> None:
    assert list(found_rows({"blobs": None, "description": None})) == []
    assert list(claim_rows({"claims": None})) == []


def test_claims_are_rows_in_their_order() -> None:
    claim = {"date": "2026-01-02T03:04:05Z", "signer": FILE, "type": "add-attribute"}
    claim |= {"attr": "tag", "value": "a", "blobref": NODE}
    rows = list(claim_rows({"claims": [claim]}))
    assert rows == [("2026-01-02 03:04", "22222222", "add-attribute", "tag", "a", NODE)]


def test_facts_are_indented_and_lists_go_on_below() -> None:
    meta = {NODE: {"blobRef": NODE, "size": 5, "permanode": {"attr": {"tag": ["a", "b"]}}}}
    assert list(fact_rows({"meta": meta}, [NODE, DATA])) == [
        ("blobRef", NODE),
        ("  size", "5"),
        ("  permanode", ""),
        ("    attr", ""),
        ("      tag", "a"),
        ("", "b"),
        ("blobRef", DATA),
        ("  ", "not known to the index"),
    ]


def test_columns_are_aligned_by_what_a_terminal_shows_and_the_last_is_whole() -> None:
    long = "x" * 200
    lines = list(columns([("日本", "b", long), ("a", "", "c"), ("y" * 100, "", "")]))
    assert lines[0].endswith(long)
    assert lines[1].index("c") == lines[0].index("x") + 2
    assert lines[2] == "y" * 63 + "…"


def test_a_name_does_not_command_the_terminal() -> None:
    (line,) = columns([("a\x1b]0;evil\x07\n", "b")])
    assert line == "a\ufffd]0;evil\ufffd\ufffd  b"


def test_a_refused_query_is_told_from_a_server_that_failed() -> None:
    text = 'http://x: 500: Invalid SearchQuery: Unknown search predicate: "foo:bar" See: http://y'
    refused = refusal(Unavailable("query", "on the server", text), "foo:bar")
    assert refused is not None
    assert "Unknown search predicate" in str(refused)
    assert "searchdoc" in str(refused)
    assert "http://y" not in str(refused)
    assert refusal(Unavailable("query", "on the server", "500: disk"), "foo:bar") is None


def test_a_terminal_gets_tables_and_a_pipe_gets_json(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    (tmp_path / "letter.txt").write_text("Dear Ann")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one").write_text("one")
    with machine.serving():
        put = machine.run("pk-put", "file", "--permanode", "--tag=post", tmp_path / "letter.txt")
        node = put.out.split()[-1]
        assert machine.run("pk", "search", "tag:post").out.startswith("{")
        machine.run("pk-put", "file", tmp_path / "letters")
        found = on_a_terminal(machine, "pk", "search", "tag:post")
        assert "letter.txt" in found
        assert found.rstrip().endswith(node)
        assert "  camliType" in on_a_terminal(machine, "pk", "describe", node)
        assert "add-attribute" in on_a_terminal(machine, "pk", "claims", node)
        assert "1      0" in on_a_terminal(machine, "pk", "biggest")
        # Texts are read a moment after they were stored.
        search = ("pk", "search", "--files", "one")
        wait_until(lambda: "letters/one" in on_a_terminal(machine, *search))
        assert "nothing found" in on_a_terminal(machine, "pk", "search", "tag:none")


def on_a_terminal(machine: Machine, program: str, *words: str) -> str:
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [BIN / program, *words],
        env=machine.environ,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    said = b""
    try:
        while piece := os.read(ours, 65536):
            said += piece
    except OSError:  # EIO: nobody holds the other end any more
        pass
    finally:
        os.close(ours)
    assert process.wait(60) == 0
    return said.decode()
