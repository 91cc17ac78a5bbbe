"""What ``popug`` alone says: to somebody new how to begin, to somebody logged in what today holds."""

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
        "Watch a day of a sample company, with every screen. It leaves nothing behind but a temporary home.",
    ),
    ("popug init", "Found your own company. It asks for what it needs; you become its first admin."),
)
SHARED_COMPUTER_HINT = (
    "On a computer that several people share, whoever founds the company may serve it to the others: popug serve."
)
LOGIN_COMMANDS = (
    ("popug login NAME", "Say who you are."),
    ("popug --help", "See all that can be done, and by whom."),
)


def welcome(context: CommandContext) -> None:
    """Show today to who is logged in; tell everybody else how to begin."""
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
    """What to type where a shell would not find ``popug``, as in a virtual environment that is not active."""
    program = program_next_to_python()
    if program and which("popug") is None:
        yield Hint(f"Have your shell find popug: export PATH={quote(str(program.parent))}:$PATH")


def _no_company_screen(context: CommandContext) -> Iterator[Block]:
    yield Heading("popug: chance hands out the chores, and every day is settled to the cent.")
    yield "Whoever gets a task pays a fee for it, whoever completes it earns a reward;"
    yield "in the evening everybody with money in hand is paid, and gets a mail that says what for."
    yield ""
    yield f"There is no company in {context.home.root} yet. You may:"
    yield Panel("Start here", START_COMMANDS)
    yield Hint(SHARED_COMPUTER_HINT)
    yield Hint("popug --help shows all that can be done, and by whom.")
    yield from path_hints()


def _not_logged_in_screen(context: CommandContext) -> Iterator[Block]:
    session_key = context.backends.session_key
    company_place = f"at {session_key}" if isinstance(session_key, str) else f"in {session_key.root}"
    yield f"There is a company {company_place}, and you are not logged in."
    yield Panel("Next", LOGIN_COMMANDS)
