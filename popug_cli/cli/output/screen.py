"""The screen of a command: show answers, next steps, questions, times and progress."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from popug_cli.cli.help.surface import surface
from popug_cli.cli.output.blocks import Block, Hint
from popug_cli.cli.output.printer import Printer
from popug_cli.cli.output.relative_time import when
from popug_cli.kernel.errors import InvalidInput

if TYPE_CHECKING:
    from popug_cli.cli.output.progress import Bar
    from popug_cli.kernel.progress import Progress
    from popug_cli.messages.backend import Backend

Line = TypeVar("Line")
LINES_PER_REPORT = 1_000


class AnswerFields(dict[str, Any]):
    """The fields of an answer by name, for ``str.format_map``; the answer is a dict or a struct."""

    def __init__(self, answer: Any) -> None:
        super().__init__(answer if isinstance(answer, dict) else {})
        self._answer = answer

    def __missing__(self, name: str) -> Any:
        return getattr(self._answer, name)


class Screen:
    """Show the answer of one command.

    ``command_path`` names the command, for its next step. ``find_backend`` returns the backend whose clock and
    calendar are shown. No next step is shown unless ``may_continue`` returns true.
    """

    def __init__(
        self,
        printer: Printer,
        find_backend: "Callable[[], Backend]",
        *,
        as_json: bool,
        command_path: str = "",
        may_continue: Callable[[], bool] = lambda: True,
    ) -> None:
        self.printer = printer
        self.as_json = as_json
        self.command_path = command_path
        self._find_backend, self._may_continue = find_backend, may_continue

    def show(
        self, answer: Any, blocks: Callable[[], Iterable[Block]], *, paged: bool = False, next_step: str | None = None
    ) -> None:
        """Print the answer as JSON, or else as sentences and tables.

        ``paged`` is for answers that may be long: they go through the pager, without a next step. ``next_step``
        replaces the command's usual next step; an empty one prints none.
        """
        if self.as_json:
            self.printer.document(answer)
        elif paged:
            self.printer.pages(blocks())
        else:
            self.printer.blocks(blocks())
            self.printer.blocks(self._next_step(answer, next_step))

    def local_time(self, instant: datetime) -> str:
        """Return an instant to the minute in the company's time zone; in UTC at the ends of the calendar."""
        with suppress(OverflowError):
            instant = self._find_backend().calendar.local(instant)
        return f"{instant:%Y-%m-%d %H:%M}"

    def when(self, instant: datetime) -> str:
        """Return an instant in words that depend on now: ``5 min ago``, ``yesterday 14:05``, ``2026-03-02``."""
        backend = self._find_backend()
        return when(instant, backend.now(), backend.calendar)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask the user to confirm an action, unless ``yes``.

        Raise ``needs_yes`` if the answer is not yes, or if there is no terminal.
        """
        if yes:
            return
        if not self.can_ask():
            raise InvalidInput("needs_yes", question, hint="Give --yes to say that you mean it.")
        self.printer.ask(f"{question} [y/N]")
        if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
            raise InvalidInput("needs_yes", "Nothing was done.", hint="Answer y, or give --yes.")

    def can_ask(self) -> bool:
        """Return whether there is a terminal at which the user sees a question and can answer it."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    @cached_property
    def progress(self) -> "Progress":
        """A function that reports progress: as a bar if stderr is a terminal, unless plain; else it does nothing."""
        from popug_cli.kernel.progress import no_progress

        return self._bar or no_progress

    def with_progress(self, label: str, lines: Iterable[Line]) -> Iterator[Line]:
        """Yield the lines; report progress every ``LINES_PER_REPORT`` lines, and the end."""
        for done, line in enumerate(lines, start=1):
            if done % LINES_PER_REPORT == 0:
                self.progress(label, done, 0)
            yield line
        self.progress(label, 1, 1)

    def close(self) -> None:
        """Remove the progress bar from the terminal."""
        if self._bar:
            self._bar.end()

    @cached_property
    def _bar(self) -> "Bar | None":
        from popug_cli.cli.output.progress import Bar

        return Bar(self.printer.err) if self.printer.err.isatty() and not self.printer.plain else None

    def _next_step(self, answer: Any, next_step: str | None) -> Iterator[Block]:
        command = surface().commands.get(self.command_path)
        default = command.then.format_map(AnswerFields(answer)) if command and command.then else ""
        step = default if next_step is None else next_step
        if step and self._may_continue():
            yield Hint(f"Next: {step}")
