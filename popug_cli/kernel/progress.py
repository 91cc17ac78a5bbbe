"""Progress of long work as a port: the core reports, a face may show it."""

from typing import Protocol


class Progress(Protocol):
    """Is told how far a piece of work has come."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """``done`` of ``total`` units of the work called ``label`` are done."""
        ...


def no_progress(label: str, done: int, total: int) -> None:
    """Shows nothing."""
