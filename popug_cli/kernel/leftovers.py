"""The sentence that names what a killed process left behind."""

from pathlib import Path


def removed(path: Path) -> str:
    """Return the sentence for a temporary file or directory that was removed."""
    return f"{path} was removed: a popug process that was killed had left it behind."
