"""Which popug this is."""


def version_line() -> str:
    """The name and the version."""
    from importlib.metadata import version

    return f"popug {version('popug')}"
