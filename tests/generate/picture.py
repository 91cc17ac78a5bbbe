"""The recorded session that the README shows: ``python -m tests.generate`` plays it again.

The program plays a day of three users in a temporary home, and Rich draws its output.
"""

import io
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.text import Text

from popug_cli.app import LocalBackend
from popug_cli.cli.main import run
from popug_cli.kernel.home import Home
from popug_cli.messages.identity import AddUser, IssueToken, RegisterFirstAdmin
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import AddTask, CompleteTask, ListTasks

PICTURE = Path(__file__).parents[2] / ".github" / "session.svg"
WIDTH = 92
PASSWORD = "every popug for itself"
CHORES = ("Sweep the perches", "Oil the cage door", "Teach the parrot to say invoice", "Polish the mirror")
SESSION = (
    ("mira", "popug task add '[POPUG-7] Feed the cage'"),
    ("kesha", "popug today"),
    ("kesha", "popug task complete MINE"),
    ("mira", "popug tasks shuffle --yes"),
    ("asya", "popug close-day"),
    ("kesha", "popug statement"),
)


def play() -> Iterator[tuple[str, str, str]]:
    """Yield a command line, its user, and its output."""
    with tempfile.TemporaryDirectory() as folder:
        backend = LocalBackend(Home(Path(folder) / "home"))
        backend.create_company("Europe/Berlin")
        backend.perform(RegisterFirstAdmin(username="ada", email="ada@example.com", password=PASSWORD), actor=OPERATOR)
        tokens = {}
        for name, role in {"mira": "manager", "asya": "accountant", "kesha": "worker"}.items():
            backend.perform_as(OPERATOR, AddUser(username=name, email=f"{name}@example.com", role=role))
            tokens[name] = backend.perform_as(OPERATOR, IssueToken(username=name, ttl_seconds=3600)).token
        for title in CHORES:
            backend.perform(AddTask(title=title), tokens["mira"])
        for name, line in SESSION:
            mine = backend.perform(ListTasks(assignee="kesha"), tokens["kesha"]).tasks
            for task in mine if line == "popug close-day" else ():
                backend.perform(CompleteTask(number=task.number), tokens["kesha"])
            typed = line.replace("MINE", str(mine[0].number) if mine else "1")
            environment = {"POPUG_HOME": f"{folder}/home", "POPUG_SESSION": f"{folder}/session.json"}
            terminal = {
                "POPUG_TOKEN": tokens[name],
                "COLUMNS": str(WIDTH),
                "FORCE_COLOR": "1",
                "TERM": "xterm-256color",
            }
            with patch.dict(os.environ, environment | terminal):
                yield name, typed, shown(typed)


def shown(line: str) -> str:
    """Return the output of a command line."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        run(shlex.split(line)[1:])
    return out.getvalue()


def draw() -> str:
    """Return the picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for name, line, printed in play():
        console.print(Text.assemble((f"{name} $ ", "bold green"), (line, "bold")))
        console.print(Text.from_ansi(printed.rstrip("\n")))
        console.print()
    return console.export_svg(title="popug")


def is_current() -> bool:
    """Return whether the picture shows each line of the session, in order."""
    shown = re.sub("<[^>]*>", "", PICTURE.read_text(encoding="utf-8").replace("&#160;", " "))
    places = [shown.find(line.split("MINE")[0].replace("'", "&#x27;")) for _, line in SESSION]
    return -1 not in places and places == sorted(places)
