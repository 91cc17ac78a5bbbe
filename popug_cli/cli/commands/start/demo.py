"""The demo: one day of a sample company, played with the program's own commands."""

import shlex
import tempfile
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Annotated

import typer

from popug_cli.cli.commands.start.demo_day import play_afternoon, play_evening, play_morning, register_people
from popug_cli.cli.commands.start.demo_stage import ADMIN, Stage
from popug_cli.cli.commands.start.welcome import path_hints
from popug_cli.cli.context import CommandContext, add_commands, command
from popug_cli.cli.output.blocks import Heading
from popug_cli.kernel import home_owner
from popug_cli.kernel.errors import Conflict, InvalidInput, Unavailable
from popug_cli.kernel.home import Home, find_home
from popug_cli.kernel.machine_zone import machine_zone_name
from popug_cli.messages.identity import LogIn, RegisterFirstAdmin

if TYPE_CHECKING:
    from popug_cli.app import LocalBackend

PASSWORD = "every popug for itself"  # noqa: S105 - a sample company's; the demo prints it

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    add_commands(program, commands)


@command(commands, "demo")
def demo(
    context: CommandContext,
    brokers: Annotated[
        str | None,
        typer.Option("--brokers", metavar="HOST:PORT,…", help="Play it on five services, linked by these brokers."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option("--database", metavar="URL", help="With --brokers: the PostgreSQL server for the services."),
    ] = None,
) -> None:
    """Play one day of a sample company in its own home, and show every screen."""
    if brokers is not None or database is not None:
        from popug_cli.cli.commands.start.demo_cluster import play_on_cluster

        play_on_cluster(context, brokers, database)
        return
    if context.options.home is not None:
        _play(_new_home(context.options.home), context)
        return
    folder = new_folder()
    try:
        _play(Home(folder), context)
    except BaseException:
        rmtree(folder, ignore_errors=True)  # an aborted demo leaves nothing behind
        raise


def new_folder() -> Path:
    """Create a temporary directory; raise ``read_only``."""
    try:
        return Path(tempfile.mkdtemp(prefix="popug-demo-"))
    except OSError as error:
        sentence = f"The demo needs a temporary directory: {error.strerror}."
        hint = "Name a directory that you may write to: `popug demo --home DIR`, or TMPDIR."
        raise Unavailable("read_only", sentence, hint=hint) from error


def _new_home(folder: Path) -> Home:
    home = find_home(folder)
    home_owner.check_place(home.root)
    if home.root.exists() and (not home.root.is_dir() or any(home.root.iterdir())):
        raise Conflict(
            "already_initialised",
            f"{home.root} is not empty; the demo needs a new home.",
            hint="Leave --home out, or name a directory that does not exist yet.",
        )
    return home


def _play(home: Home, context: CommandContext) -> None:
    from popug_cli import app

    backend = app.LocalBackend(home, warn=context.printer.warn, from_file=True)
    stage = Stage(home.root, context, backend)
    stage.announce(f"A company is founded in {home.root}")
    found_company(backend)
    stage.tokens[ADMIN] = backend.perform(LogIn(username=ADMIN, password=PASSWORD)).token
    register_people(stage)
    play_morning(stage)
    play_afternoon(stage)
    play_evening(stage)
    stage.announce("All invariants are checked")
    stage.run(ADMIN, "doctor")
    _end(stage)


def found_company(backend: "LocalBackend") -> None:
    """Create a company with its admin in the home of a backend."""
    backend.create_company(_time_zone())
    backend.perform(RegisterFirstAdmin(username=ADMIN, email=f"{ADMIN}@popug.example", password=PASSWORD))


def _time_zone() -> str:
    """Return the machine's time zone, or UTC if it is not clear; the company of a demo is not kept."""
    try:
        return machine_zone_name()
    except InvalidInput:
        return "UTC"


def _end(stage: Stage) -> None:
    """Show the home of the company and commands to try next; with ``--json``, print all recorded answers."""
    home = str(stage.folder)
    stage.context.screen.show(
        {"home": home, "password": PASSWORD, "screens": stage.screens},
        lambda: [
            "",
            Heading("That was one day. Explore the company:"),
            *path_hints(),
            f"  export POPUG_HOME={shlex.quote(home)}",
            f"  popug login {ADMIN}            # the password is: {PASSWORD}",
            "  popug events trace 1         # one task from command to mail",
            "  popug tasks list --all",
            "",
            "Remove it with: unset POPUG_HOME; rm -r " + shlex.quote(home),
            "Found your own company with: popug init",
        ],
    )
