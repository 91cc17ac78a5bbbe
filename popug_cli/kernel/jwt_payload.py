"""Decode the segments of a JWT (RFC 7519), and read a claim without verifying the signature.

``identity/tokens.py`` verifies tokens. ``read_unverified_claim`` is for places where no access depends on the claim:
``identity/shell_completion.py`` looks the token up in the database afterwards, and ``cli/state/last_seen.py`` only
remembers what a user has seen.
"""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode


def decode_segment(segment: str) -> bytes:
    """Decode base64url without padding (RFC 7515, section 2); raise ``ValueError`` for any other spelling."""
    decoded = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode("ascii"):
        raise ValueError("this is not base64url")
    return decoded


def read_unverified_claim(token: str, name: str) -> str:
    """Return a claim of a token as text; raise ``ValueError`` if the token has no such claim or is not a JWT."""
    try:
        return str(json.loads(decode_segment(token.split(".")[1]))[name])
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"the token has no readable claim {name}") from error
