"""The result and the progress of a catch-up of the consumers with the log."""

from dataclasses import dataclass, field
from typing import Self

from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.progress import Progress

MIN_REPORTED_POSITIONS = 10_000
CATCHING_UP = "Catching up"


@dataclass(slots=True)
class CatchUpResult:
    """The result of a catch-up, or the sum of several.

    ``failures`` counts failed attempts by consumer. ``errors`` are those of the environment (full disk, locked
    database …) that stopped a consumer. ``complete`` is False if the time ran out.
    """

    failures: dict[str, int] = field(default_factory=dict)
    errors: list[PopugError] = field(default_factory=list)
    complete: bool = True

    def add(self, later: "CatchUpResult") -> None:
        """Add the result of a later catch-up; its ``complete`` holds for the sum."""
        for consumer, failures in later.failures.items():
            self.failures[consumer] = self.failures.get(consumer, 0) + failures
        self.errors += later.errors
        self.complete = later.complete

    def refuse_if_behind(self) -> None:
        """Raise the error ``behind`` of a consumer that stopped at an event which only a newer program knows."""
        for error in self.errors:
            if error.code == "behind":
                raise error


class CatchUpProgress:
    """The progress of the catch-ups in a block, in log positions; reported for at least ``MIN_REPORTED_POSITIONS``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._start: int | None = None
        self._is_open = False

    def report(self, reached: int, end: int) -> None:
        """Report how far the consumers have advanced since the first call.

        ``reached`` is the sum of all cursors, ``end`` the sum of the positions that they have to reach.
        """
        if self._start is None:
            self._start = reached
        if end - self._start >= MIN_REPORTED_POSITIONS:
            self._is_open = reached < end
            self._progress(CATCHING_UP, reached - self._start, end - self._start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Report 1 of 1, so that the interface ends its display, if the last report was of unfinished work."""
        if self._is_open:
            self._progress(CATCHING_UP, 1, 1)
