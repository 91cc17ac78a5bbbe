"""Read what a JWT says without verifying its signature (RFC 7519), where nothing is decided by it alone.

Shell completion looks the token up in the database afterwards. The position that a user has seen last is a convenience.
Everything else verifies: ``identity/tokens.py``.
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
