"""`pk put …` and `pk get …`: the programs pk-put and pk-get by another name."""

import click

from .common import PK_GET, PK_PUT, Program, Session, run


class Passing(click.Command):
    """Takes every word as it is, flags too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return args


def _pass(context: click.Context, program: click.Command, codes: Program) -> int:
    """Run the program on the words given, behind what `pk` itself was told."""
    session = context.find_object(Session)
    assert session is not None
    told = {"-server": session.server, "-secret-keyring": session.secret_keyring}
    words = [f"{flag}={value}" for flag, value in told.items() if value]
    words += ["-verbose"] if session.is_verbose else []
    return run(program, codes, [*words, *context.args])


@click.command(cls=Passing)
@click.pass_context
def put(context: click.Context) -> int:
    """Run pk-put."""
    from .put import pk_put

    return _pass(context, pk_put, PK_PUT)


@click.command(cls=Passing)
@click.pass_context
def get(context: click.Context) -> int:
    """Run pk-get."""
    from .get import pk_get

    return _pass(context, pk_get, PK_GET)
