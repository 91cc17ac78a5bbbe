"""What ``popug`` alone says: to somebody new how to begin, to somebody logged in what today holds."""

from collections.abc import Iterator
from shlex import quote
from shutil import which

from popug_cli.cli.blocks import Block, Heading, Hint, Panel
from popug_cli.cli.face import Face
from popug_cli.cli.install import beside_python
from popug_cli.cli.today import show_day
from popug_cli.kernel.errors import NotAuthenticated, NotFound

FIRST_WORDS = (
    (
        "popug demo",
        "Watch a day of a sample company, with every screen. It leaves nothing behind but a temporary home.",
    ),
    ("popug init", "Found your own company. It asks for what it needs; you become its first admin."),
)
SHARED = "On a computer that several people share, whoever founds the company may serve it to the others: popug serve."
LATER_WORDS = (
    ("popug login NAME", "Say who you are."),
    ("popug --help", "See all that can be done, and by whom."),
)


def welcome(face: Face) -> None:
    """Show today to who is logged in; tell everybody else how to begin."""
    try:
        show_day(face)
    except NotFound as error:
        if face.as_json or error.code != "not_initialised" or face.home.root.is_file():
            raise
        face.printer.blocks(_nothing_here(face))
    except NotAuthenticated as error:
        if face.as_json or error.code != "not_logged_in" or error.details:
            raise
        face.printer.blocks(_nobody_here(face))


def how_to_be_found() -> Iterator[Block]:
    """What to type where a shell would not find ``popug``, as in a virtual environment that is not active."""
    beside = beside_python()
    if beside and which("popug") is None:
        yield Hint(f"Have your shell find popug: export PATH={quote(str(beside.parent))}:$PATH")


def _nothing_here(face: Face) -> Iterator[Block]:
    yield Heading("popug: chance hands out the chores, and every day is settled to the cent.")
    yield "Whoever gets a task pays a fee for it, whoever completes it earns a reward;"
    yield "in the evening everybody with money in hand is paid, and gets a mail that says what for."
    yield ""
    yield f"There is no company in {face.home.root} yet. You may:"
    yield Panel("Start here", FIRST_WORDS)
    yield Hint(SHARED)
    yield Hint("popug --help shows all that can be done, and by whom.")
    yield from how_to_be_found()


def _nobody_here(face: Face) -> Iterator[Block]:
    company = face.company
    where = f"at {company}" if isinstance(company, str) else f"in {company.root}"
    yield f"There is a company {where}, and you are not logged in."
    yield Panel("Next", LATER_WORDS)
