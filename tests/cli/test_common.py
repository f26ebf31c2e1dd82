"""Flags, exit codes, errors as text, and the wrapper that every program runs in."""

import json
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep import errors
from peatkeep.cli import common
from peatkeep.cli.common import PK, PK_GET, PK_PUT, Command, Session, run, switch

SWITCHES = {"permanode": "--permanode", "v": "-v", "1": "--1"}
VALUED = {"tag": "--tag", "o": "-o", "secret-keyring": "--secret-keyring"}

switch_words = st.sampled_from(sorted(SWITCHES)).flatmap(
    lambda name: st.sampled_from(
        [
            ([f"-{name}"], (name, "true")),
            ([f"--{name}"], (name, "true")),
            ([f"-{name}=false"], (name, "false")),
            ([f"--{name}=T"], (name, "T")),
        ]
    )
)
valued_words = st.tuples(
    st.sampled_from(sorted(VALUED)), st.text(max_size=8), st.booleans(), st.booleans()
).map(
    lambda drawn: (
        [f"-{drawn[0]}={drawn[1]}"] if drawn[2] else [f"-{drawn[0]}", drawn[1]],
        (drawn[0], drawn[1]),
    )
)
flags = st.lists(switch_words | valued_words, max_size=6)
arguments = st.lists(
    st.text(max_size=6).filter(lambda word: not common.is_flag(word) and word != "--"), max_size=4
)


def rewrite(words: list[str], *, mixed: bool = True) -> list[str]:
    return common.rewrite_flags(words, SWITCHES, VALUED, mixed=mixed)


@given(flags, arguments)
def test_every_flag_comes_out_as_name_and_value(
    drawn: list[tuple[list[str], tuple[str, str]]], words: list[str]
) -> None:
    line = [word for spelling, _ in drawn for word in spelling]
    meant = [part for _, (name, value) in drawn for part in ((SWITCHES | VALUED)[name], value)]
    assert rewrite([*line, *words], mixed=False) == meant + words
    assert rewrite([*words, *line]) == words + meant
    assert rewrite([*words, "--", *line]) == [*words, "--", *line]


@given(arguments.filter(bool), st.lists(st.text(max_size=6)))
def test_the_first_argument_ends_the_flags_of_go(words: list[str], rest: list[str]) -> None:
    assert rewrite([*words, *rest], mixed=False) == [*words, *rest]


def test_an_unknown_flag_keeps_its_name() -> None:
    assert rewrite(["-zz", "-zz=3"]) == ["--zz", "--zz=3"]


def test_a_flag_without_its_value_is_left_to_click() -> None:
    assert rewrite(["-tag"]) == ["--tag"]


def failing(error: BaseException | None = None) -> click.Command:
    @click.command(cls=Command)
    @click.option("-o", "out", default="-")
    @click.option("--tag", default="")
    @switch("--1", "first")
    @switch("--permanode")
    @common.global_flags
    @click.argument("paths", nargs=-1)
    @click.pass_obj
    def command(
        session: Session, out: str, tag: str, first: bool, permanode: bool, paths: tuple[str, ...]
    ) -> None:
        if error is not None:
            raise error
        session.output.result(
            f"{out} {tag} {first} {permanode} {paths} {session.server}",
            out=out,
            tag=tag,
            first=first,
            permanode=permanode,
            paths=paths,
        )

    return command


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-o x -1 a b", "x  True False ('a', 'b') "),
        ("--o=x a -1=false -tag t", "x t False False ('a',) "),
        ("-permanode -tag=a,b -server h:1 -", "- a,b False True ('-',) h:1"),
        ("-tag -1 -- -o", "- -1 False False ('-o',) "),
    ],
)
def test_flags_are_read_in_either_style(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(failing(), PK, line.split()) == 0
    assert capsys.readouterr().out == said + "\n"


@pytest.mark.parametrize(
    ("error", "cause", "pk_exit", "get_exit"),
    [
        (errors.NotFound("fetch", "x"), "not-found", 2, 1),
        (errors.TooLarge("store", "x"), "too-large", 2, 1),
        (errors.Forbidden("store", "x"), "forbidden", 2, 1),
        (errors.ConfigError("read", "f: key"), "config", 1, 1),
        (FileNotFoundError(2, "No such file", "x"), "not-found", 2, 1),
        (OSError(28, "No space left on device"), "io", 2, 1),
        (click.UsageError("no"), "usage", 1, 1),
        (KeyboardInterrupt(), "interrupted", 130, 130),
        (ZeroDivisionError("x"), "internal", 2, 1),
    ],
)
def test_an_error_ends_the_program_with_its_code_and_cause(
    error: BaseException,
    cause: str,
    pk_exit: int,
    get_exit: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(failing(error), PK, []) == pk_exit
    plain = capsys.readouterr()
    assert plain.out == ""
    assert "Error: " in plain.err
    assert run(failing(error), PK_GET, ["--json"]) == get_exit
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"] == cause


def test_every_error_of_the_tree_has_its_own_line_in_the_table() -> None:
    tree = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    assert [cls for cls in tree if cls not in common.OUTCOMES] == []


def test_json_ends_with_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(failing(), PK, ["-json", "a"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["paths"] == ["a"]
    assert lines[-1] == {"error": None, "exit": 0}


def test_a_problem_is_told_and_fails_the_command_in_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @click.command(cls=Command)
    @click.pass_obj
    def command(session: Session) -> None:
        session.output.problem(errors.Unavailable("fetch", "a"))
        session.output.problem(errors.Unavailable("fetch", "b"))
        session.output.result("done")

    assert run(command, PK_PUT, []) == 2
    said = capsys.readouterr()
    assert said.out == "done\n"
    assert said.err.count("Error: ") == 2
    assert said.err.count("hint: ") == 1


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["-zz"], 1, "No such option '--zz'"),
        (["-tag"], 1, "requires an argument"),
        (["-permanode=maybe"], 1, "neither true nor false"),
        (["-help"], 1, "Usage: pk"),
        (["-h"], 1, "Usage: pk"),
        (["-version"], 0, "pk version: "),
        (["-legal"], 0, "Apache License"),
    ],
)
def test_help_and_usage_go_to_standard_error(
    words: list[str], exit_code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(failing(), PK, words) == exit_code
    spoken = capsys.readouterr()
    assert spoken.out == ""
    assert said in spoken.err


def group(modes: dict[str, tuple[str, str]]) -> click.Command:
    @click.group(cls=common.LazyGroup, modes=modes)
    @common.global_flags
    def program() -> None:
        pass

    return program


def test_a_mode_is_not_imported_to_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    modes = {"absent": ("no_such_module:command", "Does nothing.")}
    assert run(group(modes), PK, ["-help"]) == 1
    assert "absent  Does nothing." in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["nosuch"], ["-zz", "nosuch"]])
def test_a_missing_or_unknown_mode_is_a_usage_error(words: list[str]) -> None:
    assert run(group({"list": ("listing:command", "List.")}), PK, words) == 1


def test_a_closed_pipe_ends_the_program_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    done: list[Callable[..., object]] = []
    monkeypatch.setattr("os.dup2", lambda *fds: done.append(fds[1]))
    assert run(failing(BrokenPipeError()), PK, []) == 141
    assert len(done) == 1
    assert capfd.readouterr().err == ""


PROGRAM = "import sys; from peatkeep.cli.pk import main; main()"


def with_stdout(redirected: str) -> subprocess.CompletedProcess[str]:
    """`pk version`, its standard output led elsewhere by a shell."""
    words = [sys.executable, "-c", PROGRAM, "version"]
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirected}', "sh", *words], capture_output=True, text=True
    )


def test_a_closed_standard_output_is_no_fault() -> None:
    ran = with_stdout(">&-")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_results_that_can_not_be_written_are_a_failure() -> None:
    ran = with_stdout("> /dev/full")
    assert ran.returncode == 2
    assert ran.stderr.startswith("Error:")
    assert "No space left on device" in ran.stderr
    assert "Traceback" not in ran.stderr
