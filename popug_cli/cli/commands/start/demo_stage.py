"""The stage of a demo: it runs command lines as several users, and shows or records their screens."""

import io
import json
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from popug_cli.cli.context import CommandContext, GlobalOptions
from popug_cli.cli.output.blocks import Heading, Hint
from popug_cli.cli.output.printer import Printer
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.messages.identity import IssueToken
from popug_cli.messages.tasks import ListTasks, StatusFilter, Task

if TYPE_CHECKING:
    from popug_cli.messages.backend import Backend

TOKEN_LIFETIME_SECONDS = 24 * 3600
ADMIN = "polly"


@dataclass
class Stage:
    """The state of a demo: its folder, the users' tokens and, with ``--json``, the answers so far.

    ``backend`` performs the commands, but not those of a cluster's operator.
    """

    folder: Path
    context: CommandContext
    backend: "Backend"
    tokens: dict[str, str] = field(default_factory=dict)
    screens: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        from popug_cli.cli.program import build

        self.program = build()

    def announce(self, sentence: str) -> None:
        """Print a heading for what happens next, unless the answer is JSON."""
        if not self.context.as_json:
            self.context.printer.blocks(["", Heading(sentence)])

    def run(self, username: str, line: str, *, must_succeed: bool = False) -> None:
        """Run one command line as a user and show its screen; with ``--json``, record the answer.

        Show a refusal like a screen; raise it if the command must succeed, and if the day cannot go on (exit status 8).
        """
        printer = Printer(out=io.StringIO(), err=io.StringIO()) if self.context.as_json else self.context.printer
        if not self.context.as_json:
            printer.blocks(["", Hint(f"{username} $ popug {line}")])
        options = GlobalOptions(self.folder, self.context.as_json, self.tokens.get(username), self.backend, printer)
        try:
            with self.program.make_context("popug", shlex.split(line), obj=options) as context:
                self.program.invoke(context)
        except PopugError as error:
            if must_succeed or isinstance(error, Unavailable):
                raise
            Printer(out=printer.out, err=printer.out).error(error, as_json=self.context.as_json)
        except typer.Exit:  # the screen says why the exit status is not 0
            pass
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

    def write_json_lines(self, name: str, lines: list[dict[str, str]]) -> str:
        """Write a file into the folder, and return its path as a word of a command line."""
        file = self.folder / name
        file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return shlex.quote(str(file))
