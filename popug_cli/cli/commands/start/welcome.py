"""The screen of ``popug`` without a command: the user's day, or how to start."""

from collections.abc import Iterator
from shlex import quote
from shutil import which

from popug_cli.cli.commands.start.today import show_day
from popug_cli.cli.context import CommandContext
from popug_cli.cli.install.schedule_units import program_next_to_python
from popug_cli.cli.output.blocks import Block, Heading, Hint, Panel
from popug_cli.kernel.errors import NotAuthenticated, NotFound

START_COMMANDS = (
    (
        "popug demo",
        "Watch one day of a sample company, with every screen. It leaves only a temporary home behind.",
    ),
    ("popug init", "Found your own company. The command asks for everything; you become the first admin."),
)
SHARED_COMPUTER_HINT = "On a shared computer, the founder of the company can serve it to other users: popug serve."
LOGIN_COMMANDS = (
    ("popug login NAME", "Log in."),
    ("popug --help", "See all commands, and who may run them."),
)


def welcome(context: CommandContext) -> None:
    """Show the user's day; without a company or a login show how to start, or with ``--json`` raise the error."""
    try:
        show_day(context)
    except NotFound as error:
        if context.as_json or error.code != "not_initialised" or context.home.root.is_file():
            raise
        context.printer.blocks(_no_company_screen(context))
    except NotAuthenticated as error:
        if context.as_json or error.code != "not_logged_in" or error.details:
            raise
        context.printer.blocks(_not_logged_in_screen(context))


def path_hints() -> Iterator[Block]:
    """Yield a hint if the shell would not find ``popug``, as in a virtual environment that is not active."""
    program = program_next_to_python()
    if program and which("popug") is None:
        yield Hint(f"Let your shell find popug: export PATH={quote(str(program.parent))}:$PATH")


def _no_company_screen(context: CommandContext) -> Iterator[Block]:
    yield Heading("popug: chance assigns the chores, and every day is settled to the cent.")
    yield "The assignee of a task pays a fee for it and earns a reward for completing it."
    yield "In the evening every positive balance is paid out, and a mail lists what it is made of."
    yield ""
    yield f"There is no company in {context.home.root} yet. You can:"
    yield Panel("Start here", START_COMMANDS)
    yield Hint(SHARED_COMPUTER_HINT)
    yield Hint("popug --help shows all commands, and who may run them.")
    yield from path_hints()


def _not_logged_in_screen(context: CommandContext) -> Iterator[Block]:
    session_key = context.backends.session_key
    location = f"at {session_key}" if isinstance(session_key, str) else f"in {session_key.root}"
    yield f"There is a company {location}, and you are not logged in."
    yield Panel("Next", LOGIN_COMMANDS)
