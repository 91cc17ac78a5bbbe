"""Read a claim of a JWT (RFC 7519) without verifying its signature, where no access depends on it.

``identity/shell_completion.py`` looks the token up in the database afterwards. ``cli/state/last_seen.py`` only
remembers what a user has seen. ``identity/tokens.py`` verifies tokens for everything else.
"""

import json
from base64 import urlsafe_b64decode


def read_unverified_claim(token: str, name: str) -> str:
    """Return a claim of a token as text; raise ``ValueError`` if the token has no such claim or is not a JWT."""
    try:
        payload = token.split(".")[1]
        return str(json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))[name])
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"the token has no readable claim {name}") from error
