"""``perform``, the single entry point: it takes a message and a token, and returns an answer or raises an error.

``LocalBackend`` performs messages in this process, on the home's database; ``hosting.served_company.ServedCompany``
keeps a company open for many threads.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

__all__ = ["LocalBackend"]


def __getattr__(name: str) -> Any:
    """Import ``LocalBackend`` on first use only, because shell completion reads a company without it."""
    if name != "LocalBackend":
        raise AttributeError(name)
    from popug_cli.app.local_backend import LocalBackend

    return LocalBackend
