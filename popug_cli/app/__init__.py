"""``perform``: the one way in. A message goes in with a token, an answer or an error comes out.

``LocalBackend`` performs in this process, on the home's own file; ``hosting.served_company.ServedCompany`` holds that
open for many threads.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend

__all__ = ["LocalBackend"]


def __getattr__(name: str) -> Any:
    """Load what performs only when it is asked for: completion looks into a company without it."""
    if name != "LocalBackend":
        raise AttributeError(name)
    from popug_cli.app.local_backend import LocalBackend

    return LocalBackend
