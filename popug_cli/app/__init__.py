"""Perform messages: an interface passes a message and a token, and receives an answer or a ``PopugError``.

``local_backend.LocalBackend`` performs messages in this process, on the home's database. It is called by the terminal
(``cli/backends.py``), the daemons and the dashboard, and by a server through ``hosting/served_company.py``, which keeps
a company open for many threads. ``handlers.py`` finds the function that performs a message: in a module, in
``workflows/`` (changes) or in ``views/`` (answers). Those ask the modules by messages (``asking.py``).
``replica_reads.py`` and ``service_reads.py`` wait until an answer shows what the caller has seen.
``coordination.py`` is the interface that orders commands and consumers. ``first_admin.py`` checks the fields of
`popug init`.
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
