"""What all programs share: flags in Go's style, exit codes, errors as text, `--json`, lazy groups.

A program's `main` is `end(run(command, PK))`; its commands are made with `cls=Command`, take the
`Session` by `@click.pass_obj`, and speak through `session.output`.
"""

import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import click

from .. import __version__, errors

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# -- exit codes ------------------------------------------------------------------------------------


class Program(NamedTuple):
    """A program's name and its exit codes: Perkeep's (cmd/README.md, "Exit codes")."""

    name: str
    usage_exit: int = 1  # flags, arguments or mode are wrong; a configuration can't be used
    failed_exit: int = 2  # the command began, and failed
    help_exit: int = 1  # -help without a mode


PK: Final = Program("pk")
PK_PUT: Final = Program("pk-put")
PK_GET: Final = Program("pk-get", failed_exit=1, help_exit=0)
PEATKEEPD: Final = Program("peatkeepd", usage_exit=2, failed_exit=1, help_exit=0)

INTERRUPTED_EXIT: Final = 130
BROKEN_PIPE_EXIT: Final = 141
"""What a shell reports for a program that SIGINT or SIGPIPE ended."""

COLLECTED_AT: Final = 50_000
"""New objects after which Python looks for cycles of them. Its own number, 700, costs a twentieth
of the time of what handles many blobs, none of which is in a cycle. Not for the server: there
cycles keep bodies of requests, and ten gigabytes in one file took it 20 MB more."""

# -- errors ----------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """How an error ends a program. `cause` is the word in the last line of `--json`."""

    cause: str
    hint: str = ""
    is_usage: bool = False


OUTCOMES: Final[dict[type[BaseException], Outcome]] = {
    errors.NotFound: Outcome("not-found"),
    errors.Corrupt: Outcome(
        "corrupt", "a copy is damaged: fetch it from another store, or back up"
    ),
    errors.TooLarge: Outcome("too-large"),
    errors.Invalid: Outcome("invalid"),
    errors.Forbidden: Outcome(
        "forbidden", "check `auth` in the client configuration (pk config show, pk doctor)"
    ),
    errors.ReadOnly: Outcome("read-only", "the server's log says since when, and why"),
    errors.Unsupported: Outcome("unsupported"),
    errors.Unavailable: Outcome("unavailable", "is the server running? pk doctor says more"),
    errors.ConfigError: Outcome("config", is_usage=True),
    errors.StoreError: Outcome("failed"),
    click.UsageError: Outcome("usage", is_usage=True),
    FileNotFoundError: Outcome("not-found"),
    PermissionError: Outcome("forbidden"),
    OSError: Outcome("io"),
    KeyboardInterrupt: Outcome("interrupted", "run the same command again to go on"),
    BrokenPipeError: Outcome("broken-pipe"),
    BaseException: Outcome(
        "internal", "this is a bug of peatkeep: please report what stands above"
    ),
}
"""The one table of error -> message, hint and exit code; an error's nearest class counts."""


def outcome_of(error: BaseException) -> Outcome:
    return next(OUTCOMES[cls] for cls in type(error).__mro__ if cls in OUTCOMES)


def exit_code_of(error: BaseException, program: Program) -> int:
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED_EXIT
    if isinstance(error, BrokenPipeError):
        return BROKEN_PIPE_EXIT
    return program.usage_exit if outcome_of(error).is_usage else program.failed_exit


def message_of(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror:
        name = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{name}{error.strerror}"
    return str(error) or type(error).__name__


# -- output ----------------------------------------------------------------------------------------


class Output:
    """Results on standard output, all else on standard error.

    With `as_json`, each result is one JSON object a line, and the last line is
    `{"error": cause or null, …}`.
    """

    def __init__(self) -> None:
        self.as_json = False
        self.problems: list[BaseException] = []
        self.summary: dict[str, object] = {}  # more members of the last line of --json

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads the results as they come."""
        return not self.as_json and sys.stdout.isatty()

    @property
    def shows_progress(self) -> bool:
        return not self.as_json and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def result(self, text: str, label: str = "", /, **members: object) -> None:
        """One result: `text` as a line, or `members` as JSON. Flushed, as others may follow it.

        label: says on a terminal what the text is; programs that read it get the text alone.
        """
        if self.as_json:
            text = json.dumps(members)
        elif label and self.is_terminal:
            text = f"{text}  {label}"
        print(text, flush=True)

    def note(self, text: str) -> None:
        """Something a person should know that is no result."""
        print(text, file=sys.stderr, flush=True)

    def problem(self, error: BaseException) -> None:
        """Tell of one failure and go on: the program will end with the code for failed."""
        self.problems.append(error)
        outcome = outcome_of(error)
        if outcome.cause == "internal":
            import traceback  # for our own mistakes only

            traceback.print_exception(error)
        self.note(f"Error: {message_of(error)}")
        if outcome.hint and [outcome_of(p).cause for p in self.problems].count(outcome.cause) == 1:
            self.note(f"hint: {outcome.hint}")

    def finish(self, exit_code: int) -> None:
        """Say the last line of `--json`."""
        if not self.as_json:
            return
        last: dict[str, object] = {"error": None, "exit": exit_code}
        if self.problems:
            first = self.problems[0]
            last |= {"error": outcome_of(first).cause, "message": message_of(first)}
            last |= {"hint": outcome_of(first).hint, "problems": len(self.problems)}
        print(json.dumps(last | self.summary), flush=True)


class Session:
    """One run of a program: what its global flags said, and where it speaks."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.output = Output()
        self.is_verbose = False
        self.server = ""  # -server: a URL, host:port or alias; empty: the configured one
        self.secret_keyring = ""  # -secret-keyring; empty: the configured one


# -- flags -----------------------------------------------------------------------------------------

TRUE_WORDS: Final = {"1", "t", "T", "TRUE", "true", "True"}
FALSE_WORDS: Final = {"0", "f", "F", "FALSE", "false", "False"}


def rewrite_flags(
    words: Sequence[str], switches: Mapping[str, str], valued: Mapping[str, str], *, mixed: bool
) -> list[str]:
    """Turn flags in Go's style into the form that click reads: `--name`, `value`, each a word.

    words: a command line without the program's name. switches, valued: flag name without dashes
    -> its name in click, of boolean flags and of flags that take a value.
    mixed: flags may stand after arguments too; otherwise the first argument ends them, as in Go.
    One dash or two, `-f=v` or `-f v`; a switch is `-f` or `-f=false`. `--` ends the flags; `-`
    is an argument. Unknown flags come out with two dashes, for click to refuse by name.
    """
    rewritten: list[str] = []
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--" or (not mixed and not is_flag(word)):
            return [*rewritten, word, *reversed(rest)]
        if not is_flag(word):
            rewritten.append(word)
            continue
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if name in switches:
            rewritten += [switches[name], value if equals else "true"]
        elif name not in valued:
            rewritten.append(f"--{name}{equals}{value}")
        elif equals:
            rewritten += [valued[name], value]
        else:
            rewritten.append(valued[name])
            if rest:
                rewritten.append(rest.pop())
    return rewritten


def is_flag(word: str) -> bool:
    return word.startswith("-") and word not in ("-", "--")


class Truth(click.ParamType[bool]):
    """The value of a switch, which `rewrite_flags` always writes out."""

    name = "switch"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bool:
        if isinstance(value, bool):
            return value
        if value not in TRUE_WORDS | FALSE_WORDS:
            self.fail(f"{value!r} is neither true nor false", param, ctx)
        return value in TRUE_WORDS


class Switch(click.Option):
    """A boolean flag."""

    def make_metavar(self, ctx: click.Context) -> str:  # noqa: ARG002 - a switch shows no value
        return ""


def switch(*names: str, **settings: Any) -> Callable[[Decorated], Decorated]:
    """A boolean flag in Go's style, false unless a default is given: `-f`, `-f=false`."""
    settings = {"default": False} | settings
    return click.option(*names, cls=Switch, type=Truth(), **settings)


class GoFlags(click.Command):
    """Mixed into commands and groups: reads flags in Go's style, and shows help on stderr."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {"help": "--help", "h": "--help"}
        valued: dict[str, str] = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and param.name != "help":
                names = switches if isinstance(param, Switch) else valued
                names |= {opt.lstrip("-"): opt for opt in param.opts}
        mixed = ctx.allow_interspersed_args
        return super().parse_args(ctx, rewrite_flags(args, switches, valued, mixed=mixed))

    def get_help_option(self, ctx: click.Context) -> click.Option:  # noqa: ARG002 - click's signature
        return Switch(
            ["--help"],
            type=Truth(),
            default=False,
            is_eager=True,
            expose_value=False,
            callback=_show_help,
            help="Show this text.",
        )


def _show_help(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    click.echo(ctx.get_help(), err=True)
    session = ctx.find_object(Session)
    ctx.exit(session.program.help_exit if session and ctx.parent is None else 0)


class Command(GoFlags, click.Command):
    """A command, or a program without modes."""


class LazyGroup(GoFlags, click.Group):
    """A program with modes; the module of a mode is imported only when that mode is used.

    modes: mode -> ("module:attribute" below this package, one line of help).
    """

    def __init__(self, *args: Any, modes: Mapping[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(*args, **{"subcommand_metavar": "MODE [FLAGS] [ARGUMENTS]"} | settings)
        self.modes = modes

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self.modes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.modes:
            return None
        module, _, attribute = self.modes[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(f".{module}", __package__), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.modes:
            import difflib  # for this mistake only

            close = difflib.get_close_matches(args[0], self.modes, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            ctx.fail(f"There is no mode {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Modes"):
            formatter.write_dl([(mode, text) for mode, (_, text) in self.modes.items()])


# -- flags that many programs and commands take ----------------------------------------------------


def _keep(attribute: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    """A callback that keeps a flag's value, if given, in the session."""

    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(ctx.find_object(Session), attribute, value)

    return callback


def _use_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    session = ctx.find_object(Session)
    if value and session:
        session.output.as_json = True


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        click.echo(f"{ctx.info_name} version: {__version__}", err=True)
        ctx.exit(0)


def show_legal(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if not value:
        return
    from importlib.metadata import distribution

    notice = distribution("peatkeep").read_text("licenses/NOTICE") or ""
    click.echo(
        f"peatkeep is free software under the Apache License, version 2.0.\n{notice}", err=True
    )
    ctx.exit(0)


server_flag = click.option(
    "--server",
    metavar="S",
    expose_value=False,
    callback=_keep("server"),
    help="URL, host:port or alias of the server.",
)
json_flag = switch(
    "--json",
    expose_value=False,
    is_eager=True,
    callback=_use_json,
    help="Write JSON lines; the last one tells the outcome.",
)


def global_flags(function: Decorated) -> Decorated:
    """The flags that stand before the mode: -server -secret-keyring -verbose -version -legal."""
    flags = [
        server_flag,
        click.option(
            "--secret-keyring",
            metavar="FILE",
            expose_value=False,
            callback=_keep("secret_keyring"),
            help="File with the signing key.",
        ),
        switch(
            "--verbose", expose_value=False, callback=_keep("is_verbose"), help="Tell what is done."
        ),
        json_flag,
        switch("--version", expose_value=False, callback=_show_version, help="Show the version."),
        switch("--legal", expose_value=False, callback=show_legal, help="Show the licence."),
    ]
    for flag in reversed(flags):
        function = flag(function)
    return function


# -- running ---------------------------------------------------------------------------------------


def end(exit_code: int) -> NoReturn:
    """End this process."""
    gc.freeze()  # or Python looks through all modules for cycles of objects, for 10 ms
    sys.exit(exit_code)


def end_at_once(exit_code: int) -> NoReturn:
    """End this process, where `run` has left nothing open: Python takes 10 ms to clear itself away.

    No thread is waited for.
    """
    os._exit(exit_code)


def run(command: click.Command, program: Program, words: Sequence[str] | None = None) -> int:
    """Run a program and return its exit code; a `main` hands it to `end`.

    words: the command line without the program's name; by default that of this process.
    A command returns None, or an exit code of its own. Whatever it raises is told by OUTCOMES.
    """
    # The chunker's numpy brings a library whose threads would spin beside it, for nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if program is not PEATKEEPD:
        gc.set_threshold(COLLECTED_AT)
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_closed_streams()
    session = Session(program)
    exit_code = 0
    try:
        exit_code = _invoke(command, session, list(sys.argv[1:] if words is None else words))
        session.output.finish(exit_code)
        sys.stdout.flush()
    except OSError as error:
        # Nothing more may be flushed there at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read the results has gone
            return BROKEN_PIPE_EXIT
        if not exit_code:
            reason = error.strerror or str(error)
            session.output.problem(OSError(error.errno, reason, "standard output"))
        return exit_code or program.failed_exit
    return exit_code


def _open_closed_streams() -> None:
    """Lead streams that were closed when the program began to nowhere.

    Else a file of ours would get the number of such a stream, and what is meant for that.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def _invoke(command: click.Command, session: Session, words: list[str]) -> int:
    output, program = session.output, session.program
    try:
        with command.make_context(program.name, words, obj=session) as context:
            returned = command.invoke(context)
        exit_code = returned if isinstance(returned, int) else 0
    except click.exceptions.Exit as end:
        exit_code = end.exit_code
    except BrokenPipeError:
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return program.usage_exit
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, click.UsageError) and error.ctx:
            output.note(error.ctx.get_usage())
        output.problem(error)
        return exit_code_of(error, program)
    return exit_code or (program.failed_exit if output.problems else 0)
