"""The server: finds or makes its configuration, then serves until told to stop."""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import __version__, places
from ..errors import ConfigError
from .common import PEATKEEPD, Command, Output, Session, end, run, show_legal, switch
from .configuration import chosen_file

if TYPE_CHECKING:
    from ..server.config.first_start import FirstStart
    from ..server.config.record import LowConfig


def _show_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        python = ".".join(map(str, sys.version_info[:3]))
        text = f"peatkeepd version: {__version__}\nPython version: {python} ({sys.platform})"
        click.echo(text, err=True)
        ctx.exit(0)


@click.command(cls=Command)
@click.argument("up", required=False, type=click.Choice(["up"]), metavar="[up]")
@click.option("--data", metavar="DIR", help="Keep everything below this folder, settings too.")
@click.option("--listen", metavar="ADDR:PORT", default="", help="Where to listen.")
@click.option(
    "--storage",
    type=click.Choice(("diskpacked", "localdisk", "blobpacked")),
    help="At the first start: how to keep blobs, in large files (the default), a file for each,"
    " or in zips.",
)
@click.option("--config", metavar="FILE", help="Configuration, from the working directory.")
@click.option("--configfile", metavar="FILE", help="The same, from the configuration directory.")
@switch("--openbrowser", help="Open the web interface when ready.")
@switch("--reindex", help="Make the index anew from the blobs, while serving.")
@click.option(
    "--recovery",
    type=click.IntRange(0, 2),
    default=0,
    help="Make the index of packed blobs anew: 1 what is there, 2 also forget what is missing.",
)
@switch("--keep-going", help="Start in spite of errors in the index.")
@switch("--syslog", help="Log to the system's log too.")
@switch("--version", expose_value=False, callback=_show_version, help="Show the version.")
@switch("--legal", expose_value=False, callback=show_legal, help="Show the licence.")
@click.pass_obj
def peatkeepd(
    session: Session,
    up: str | None,  # noqa: ARG001 - a word to say for people: it is what happens anyway
    data: str | None,
    listen: str,
    storage: str | None,
    config: str | None,
    configfile: str | None,
    openbrowser: bool,
    reindex: bool,
    recovery: int,
    keep_going: bool,
    syslog: bool,
) -> int | None:
    """Serve. Without any configuration, set a server up first, with a key and a password.

    The configuration is server.toml or Perkeep's server-config.json, in DIR, else in the
    configuration directory (pk env configdir).
    """
    if sum(place is not None for place in (data, config, configfile)) > 1:
        raise click.UsageError("--data, --config and -configfile exclude each other")
    os.umask(0o077)  # blobs, index and keys are nobody else's business
    try:
        location = _location(os.environ, data, config, configfile)
        listen = listen or os.environ.get("PK_LISTEN", "")
        if location and storage:
            reason = "--storage is for the first start; `pk storage migrate` changes it later"
            raise ConfigError("use", location, reason)
        first = None if location else _set_up(os.environ, data, listen, storage or "")
        configuration = _configuration(
            session.output,
            location or str(first.server_config if first else ""),
            listen,
            reindex=reindex,
            keep_going=keep_going,
        )
        _log_to_stderr(syslog)
        if configuration is None:
            return None
        ready = _teller(session.output, first, openbrowser)
        return _serve(session.output, configuration, ready, recovery)
    except ConfigError as error:
        # Not raised: a configuration that can't be used is no wrong usage here, as in Perkeep.
        session.output.problem(error)
        return None


def _location(
    environ: Mapping[str, str], data: str | None, config: str | None, configfile: str | None
) -> str | None:
    """Return the configuration file or URL to serve; None if there is none yet."""
    if config is not None:
        return chosen_file(config, environ)
    if configfile is not None:
        if configfile.startswith(("http://", "https://")):
            return configfile
        return str(places.config_dir(environ) / configfile)
    if data is not None:
        found = (Path(data) / name for name in places.SERVER_CONFIGS)
        return next((str(path) for path in found if path.exists()), None)
    usual = places.server_config_file(environ)
    return str(usual) if usual else None


def _set_up(
    environ: Mapping[str, str], data: str | None, listen: str, storage: str
) -> "FirstStart":
    from ..server.config import first_start
    from ..server.serve import listen_on

    listen = listen or first_start.DEFAULT_LISTEN
    # A port that is taken is found out before anything is written.
    listen_on(listen).close()
    return first_start.make(
        environ,
        listen=listen,
        user=_user(environ),
        data=Path(data) if data is not None else None,
        kind=storage,
    )


def _user(environ: Mapping[str, str]) -> str:
    import pwd

    name = environ.get("USER") or environ.get("LOGNAME")
    if name:
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "owner"


def _configuration(
    output: Output, location: str, listen: str, *, reindex: bool, keep_going: bool
) -> "LowConfig | None":
    """Return the configuration to serve; None, its problems told, if it can't be."""
    from dataclasses import replace

    from ..server.config import first_start, load, support

    found = load.load(location, os.environ, reindex=reindex, keep_going=keep_going)
    listen = listen or found.listen or first_start.DEFAULT_LISTEN
    found = replace(found, listen=listen, source={**found.source, "listen": listen})
    problems = support.check_supported(found)
    for problem in problems:
        output.problem(ConfigError("use", location, problem))
    if problems and Path(location).name == places.PERKEEP_SERVER_CONFIG:
        output.note("hint: peatkeepd up --data DIR sets up a server of its own in DIR")
    for warning in support.warnings(found):
        output.note(f"warning: {location}: {warning}")
    return None if problems else found


def _log_to_stderr(syslog: bool) -> None:
    import logging
    from logging.handlers import SysLogHandler

    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    if not syslog:
        return
    try:
        handler = SysLogHandler("/dev/log")
    except OSError as error:
        raise ConfigError("log to", "syslog (/dev/log)", error.strerror or str(error)) from None
    handler.setFormatter(logging.Formatter("peatkeepd: %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


def _serve(
    output: Output, configuration: "LowConfig", ready: Callable[[str], None], recovery: int
) -> int:
    from ..server.config import tls
    from ..server.config.prepare import make_folders
    from ..server.serve import serve

    make_folders(configuration)
    configured = configuration.https_cert
    configuration = tls.with_certificate(configuration, os.environ)
    if configuration.https and not configured:
        fingerprint = tls.fingerprint(configuration.https_cert)
        output.note(f"self-signed certificate {configuration.https_cert}; its clients need")
        output.note(f'  "trustedCerts": ["{fingerprint}"]')
    return serve(configuration, ready=ready, environ=os.environ, recovery=recovery)


def _teller(output: Output, first: "FirstStart | None", openbrowser: bool) -> Callable[[str], None]:
    """Return what is called with the server's URL when it answers."""

    def ready(url: str) -> None:
        output.note(f"server: available at {url}")
        if first:
            output.note(guide(first, _programs(os.environ)))
        if openbrowser:
            import threading
            import webbrowser

            # In a thread: a browser on a terminal would hold the server up.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    return ready


def _programs(environ: Mapping[str, str]) -> str:
    """Return what stands before the name of our programs on a command line, "" on the PATH."""
    folder = Path(sys.argv[0]).absolute().parent
    if str(folder) in environ.get("PATH", "").split(os.pathsep):
        return ""
    if folder.is_relative_to(Path.cwd()):
        return f"{folder.relative_to(Path.cwd())}/"
    return f"{folder}/"


def guide(first: "FirstStart", programs: str) -> str:
    """Return what to say after a first start. The password is not in it.

    programs: what stands before a program's name.
    """
    flag, source = (
        ("", "") if first.is_default else (f" -server {first.alias}", f" -src {first.alias}")
    )
    lines = [
        "",
        "Your server is set up:",
        f"  settings  {first.server_config}",
        f"  blobs     {first.blobs}",
        f"  login     {first.user}, with the password in {first.client_config}",
        f"  key       {first.ring} ({first.key_id})",
        "",
    ]
    if first.is_new_key:
        lines += [
            "Copy the key to another place now: it signs what you store, and there is no second:",
            f"  cp {first.ring} /path/to/a/safe/place/",
            "",
        ]
    if not first.is_default:
        lines += [f'Your programs know this server as "{first.alias}"; another is their default.']
    steps = {
        f"pk-put{flag} file --permanode --tag=first FOLDER": "back a folder up",
        f"pk-get{flag} -o TARGET REF": "get it back, by its ref",
        f"pk list{source}": "see what is stored",
    }
    width = max(map(len, steps))
    lines += ["Next, in a second terminal:"]
    lines += [f"  {programs}{step:{width}}   # {deed}" for step, deed in steps.items()]
    return "\n".join(lines)


def main() -> None:
    """Run the program; the console script."""
    end(run(peatkeepd, PEATKEEPD))
