"""The version of popug."""

from popug_cli import __version__


def version_line() -> str:
    """Return the program's name and version."""
    return f"popug {__version__}"
