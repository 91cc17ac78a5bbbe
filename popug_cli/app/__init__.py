"""``perform``: the one way in. A message goes in with a token, an answer or an error comes out.

``Local`` performs in this process, on the home's own file; ``resident.Resident`` holds that open for many threads.
"""

from popug_cli.app.local import Local

__all__ = ["Local"]
