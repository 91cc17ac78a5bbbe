"""popug: the task exchange of UberPopug Inc."""

__version__ = "0.1.0"
