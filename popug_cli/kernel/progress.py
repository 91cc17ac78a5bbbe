"""Progress of long operations as a port: the core reports it, an interface may show it."""

from typing import Protocol


class Progress(Protocol):
    """A receiver of progress reports."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` units are done; ``label`` names the operation for people."""
        ...


def no_progress(label: str, done: int, total: int) -> None:
    """Ignore the report."""
