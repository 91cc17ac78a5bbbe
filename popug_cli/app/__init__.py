"""``perform``: the one way in. A message goes in with a token, an answer or an error comes out.

``Local`` performs in this process, on the home's own file; ``resident.Resident`` holds that open for many threads.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popug_cli.app.local import Local

__all__ = ["Local"]


def __getattr__(name: str) -> Any:
    """Load what performs only when it is asked for: completion looks into a company without it."""
    if name != "Local":
        raise AttributeError(name)
    from popug_cli.app.local import Local

    return Local
