"""The version of popug."""


def version_line() -> str:
    """Return the program's name and version."""
    from importlib.metadata import version

    return f"popug {version('popug')}"
