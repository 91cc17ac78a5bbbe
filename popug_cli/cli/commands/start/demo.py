"""The demo: one day of a sample company, played with the program's own commands."""

import io
import json
import shlex
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import typer

from popug_cli.cli.commands.start.welcome import path_hints
from popug_cli.cli.context import CommandContext, GlobalOptions, add_commands, command
from popug_cli.cli.output.blocks import Heading, Hint
from popug_cli.cli.output.printer import Printer
from popug_cli.kernel import home_owner
from popug_cli.kernel.errors import Conflict, InvalidInput, PopugError, Unavailable
from popug_cli.kernel.home import Home, find_home
from popug_cli.kernel.machine_zone import machine_zone_name
from popug_cli.messages.identity import IssueToken, LogIn, RegisterFirstAdmin
from popug_cli.messages.mail import ListMails
from popug_cli.messages.tasks import ListTasks, StatusFilter, Task

if TYPE_CHECKING:
    from popug_cli.app import LocalBackend

PASSWORD = "every popug for itself"  # noqa: S105 - a sample company's; the demo prints it
TOKEN_LIFETIME_SECONDS = 24 * 3600
ADMIN, MANAGER, ACCOUNTANT = "polly", "mango", "pepper"
WORKERS = ("aria", "basil", "coco", "dusty", "ember", "figaro", "gigi", "hugo", "iris")
CHORES = (
    "Change the water",
    "Sweep the perches",
    "Count the sunflower seeds",
    "Oil the cage door",
    "Teach the parrot to say invoice",
    "Untangle the bells",
    "Polish the mirror",
    "Air the nest boxes",
    "Order more millet",
    "Read the meters",
    "Label the feeders",
)
# With so many, one day in 50,000 is without a payout; with four and three, one in 170 is.
COMPLETED_IN_THE_MORNING = 6
COMPLETED_IN_THE_AFTERNOON = 3

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    add_commands(program, commands)


@command(commands, "demo")
def demo(context: CommandContext) -> None:
    """Play one day of a sample company in its own home, and show every screen."""
    if context.options.home is not None:
        _play(Stage(_new_home(context.options.home), context))
        return
    folder = _new_folder()
    try:
        _play(Stage(Home(folder), context))
    except BaseException:
        rmtree(folder, ignore_errors=True)  # an aborted demo leaves nothing behind
        raise


def _new_folder() -> Path:
    """Create a temporary directory; raise ``read_only``."""
    try:
        return Path(tempfile.mkdtemp(prefix="popug-demo-"))
    except OSError as error:
        sentence = f"The demo needs a temporary directory: {error.strerror}."
        hint = "Name a directory that you may write to: `popug demo --home DIR`, or TMPDIR."
        raise Unavailable("read_only", sentence, hint=hint) from error


def _play(stage: "Stage") -> None:
    _found_company(stage)
    _morning(stage)
    _afternoon(stage)
    _evening(stage)
    stage.end()


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


@dataclass
class Stage:
    """The state of a demo: its home, the users' tokens and, with ``--json``, the answers so far."""

    home: Home
    context: CommandContext
    tokens: dict[str, str] = field(default_factory=dict)
    screens: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from popug_cli import app
        from popug_cli.cli.program import build

        self.backend: LocalBackend = app.LocalBackend(self.home, warn=self.context.printer.warn, from_file=True)
        self.program = build()

    def announce(self, sentence: str) -> None:
        """Print a heading for what happens next, unless the answer is JSON."""
        if not self.context.as_json:
            self.context.printer.blocks(["", Heading(sentence)])

    def run(self, username: str, line: str) -> None:
        """Run one command line as a user and show its screen or its error; with ``--json``, record the answer."""
        printer = Printer(out=io.StringIO(), err=io.StringIO()) if self.context.as_json else self.context.printer
        if not self.context.as_json:
            printer.blocks(["", Hint(f"{username} $ popug {line}")])
        options = GlobalOptions(self.home.root, self.context.as_json, self.tokens[username], self.backend, printer)
        try:
            with self.program.make_context("popug", shlex.split(line), obj=options) as context:
                self.program.invoke(context)
        except PopugError as error:
            Printer(out=printer.out, err=printer.out).error(error, as_json=self.context.as_json)
        if self.context.as_json:
            screen = json.loads(printer.out.getvalue())  # type: ignore[attr-defined]
            self.screens.append({"as": username, "command": f"popug {line}", "answer": screen})

    def tasks(self) -> list[Task]:
        """Return the open tasks, by number."""
        return self.backend.perform(ListTasks(status=StatusFilter.OPEN), self.tokens[ADMIN]).tasks

    def issue_tokens(self, *names: str) -> None:
        """Issue tokens for users, so that the demo can act as them."""
        for name in names:
            issued = self.backend.perform(
                IssueToken(username=name, ttl_seconds=TOKEN_LIFETIME_SECONDS), self.tokens[ADMIN]
            )
            self.tokens[name] = issued.token

    def end(self) -> None:
        """Show the home of the company and commands to try next; with ``--json``, print all recorded answers."""
        self.context.screen.show(
            {"home": str(self.home.root), "password": PASSWORD, "screens": self.screens},
            lambda: [
                "",
                Heading("That was one day. Explore the company:"),
                *path_hints(),
                f"  export POPUG_HOME={shlex.quote(str(self.home.root))}",
                f"  popug login {ADMIN}            # the password is: {PASSWORD}",
                "  popug events trace 1         # one task from command to mail",
                "  popug tasks list --all",
                "",
                "Remove it with: unset POPUG_HOME; rm -r " + shlex.quote(str(self.home.root)),
                "Found your own company with: popug init",
            ],
        )


def _found_company(stage: Stage) -> None:
    stage.announce(f"A company is founded in {stage.home.root}")
    stage.backend.create_company(_time_zone())
    stage.backend.perform(RegisterFirstAdmin(username=ADMIN, email=f"{ADMIN}@popug.example", password=PASSWORD))
    stage.tokens[ADMIN] = stage.backend.perform(LogIn(username=ADMIN, password=PASSWORD)).token
    stage.announce("The admin registers a manager, an accountant and nine workers")
    stage.run(ADMIN, f"user add {MANAGER} --email {MANAGER}@popug.example --role manager")
    people = [(ACCOUNTANT, "accountant"), *((name, "worker") for name in WORKERS)]
    lines = [{"username": name, "email": f"{name}@popug.example", "role": role} for name, role in people]
    stage.run(ADMIN, f"user import {_write_json_lines(stage, 'people.jsonl', lines)}")
    stage.issue_tokens(MANAGER, ACCOUNTANT, *WORKERS)


def _time_zone() -> str:
    """Return the machine's time zone, or UTC if it is not clear; the company of a demo is not kept."""
    try:
        return machine_zone_name()
    except InvalidInput:
        return "UTC"


def _morning(stage: Stage) -> None:
    stage.announce("Tasks are created; chance assigns each of them, and the assignee pays a fee")
    stage.run(MANAGER, "task add '[POPUG-7] Feed the cage'")
    stage.run(
        MANAGER, f"tasks import {_write_json_lines(stage, 'chores.jsonl', [{'title': title} for title in CHORES])}"
    )
    stage.run(MANAGER, "tasks list --all")
    stage.announce("The assignee who completes a task earns its reward")
    for task in stage.tasks()[:COMPLETED_IN_THE_MORNING]:
        stage.run(task.assignee, f"task complete {task.number}")


def _afternoon(stage: Stage) -> None:
    assignees_before = {task.number: task.assignee for task in stage.tasks()}
    stage.announce("The manager shuffles: every open task is drawn again, and charged again")
    stage.run(MANAGER, "tasks shuffle --yes")
    reassigned = [task for task in stage.tasks() if assignees_before[task.number] != task.assignee]
    if reassigned:
        stage.announce("A worker is too late: the shuffle has reassigned the task")
        stage.run(assignees_before[reassigned[0].number], f"task complete {reassigned[0].number}")
    stage.announce("The other workers continue")
    for task in stage.tasks()[:COMPLETED_IN_THE_AFTERNOON]:
        stage.run(task.assignee, f"task complete {task.number}")
    worker = stage.tasks()[0].assignee
    stage.announce("A worker looks at the balance and the entries of today")
    stage.run(worker, "balance")
    stage.run(worker, "statement")


def _evening(stage: Stage) -> None:
    stage.announce("The day is closed: positive balances are paid out and announced by mail, debts are carried over")
    stage.run(ACCOUNTANT, "close-day --dry-run")
    stage.run(ACCOUNTANT, "close-day --yes")
    stage.run(ACCOUNTANT, "mail list")
    for mail in stage.backend.perform(ListMails(), stage.tokens[ACCOUNTANT]).mails[:1]:
        stage.run(ACCOUNTANT, f"mail show {mail.mail_id}")
    stage.announce("Management sees its income, and all invariants are checked")
    stage.run(ACCOUNTANT, "income")
    stage.run(ADMIN, "analytics")
    stage.run(ADMIN, "doctor")


def _write_json_lines(stage: Stage, name: str, lines: list[dict[str, str]]) -> str:
    file = stage.home.root / name
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return shlex.quote(str(file))
