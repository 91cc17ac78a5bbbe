"""A progress bar on stderr for work that takes longer than a second."""

import time
from typing import IO, Any

DELAY_SECONDS = 1.0
INTERVAL_SECONDS = 0.1
IDLE_SECONDS = 10.0


class Bar:
    """A progress bar that appears after one second, and loads Rich only then.

    If nothing was reported for ``IDLE_SECONDS``, as in a scheduler, the second starts again.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._started = self._reported_at = time.monotonic()
        self._drawn_at = 0.0
        self._label = ""
        self._rich_progress: Any = None
        self._task: Any = None

    def __call__(self, label: str, done: int, total: int) -> None:
        """Draw the bar after the first second, at most ten times a second. If ``total`` is 0, the bar only pulses."""
        now = time.monotonic()
        if now - self._reported_at > IDLE_SECONDS:
            self._started = now
        self._reported_at = now
        if label != self._label:
            self.end()
            self._label = label
        finished = bool(total) and done >= total
        if now - self._started < DELAY_SECONDS or (now - self._drawn_at < INTERVAL_SECONDS and not finished):
            return
        self._drawn_at = now
        if self._rich_progress is None:
            self._show(total)
        self._rich_progress.update(self._task, completed=done, total=total or None, refresh=True)
        if finished:
            self.end()

    def _show(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import Progress as RichProgress

        from popug_cli.cli.output.printer import shows_styles

        color_system: Any = "standard" if shows_styles(self._stream) else None
        console = Console(file=self._stream, force_terminal=self._stream.isatty(), color_system=color_system)
        self._rich_progress = RichProgress(console=console, auto_refresh=False, transient=True)
        self._rich_progress.start()
        self._task = self._rich_progress.add_task(self._label, total=total or None)

    def end(self) -> None:
        """Remove the bar and show the cursor again."""
        if self._rich_progress is not None:
            self._rich_progress.stop()
            self._rich_progress = None
