"""Versions of popug: a client and a server understand each other if both belong to the same series."""


def series_of(version: str) -> list[str]:
    """Return the series of a version, its first two numbers: that of ``1.4.2`` is ``["1", "4"]``."""
    return version.split(".")[:2]
