"""The password in a database's URL: find it, and leave it out of what is shown.

``storage.postgres.url`` parses the URL with libpq, whose import takes 200 ms; a text that libpq refuses is masked here,
too.
"""

import re
from urllib.parse import unquote

MASK = "***"
NOT_SHOWN = "(not shown, because it is not a URL)"
_PARTS = re.compile(  # as libpq: an @ before the first slash ends the credentials; a later one is part of a password
    r"(?s)\s*(?P<scheme>postgres(?:ql)?://)(?P<credentials>(?:[^/@]*@)?(?:[^?]*@)?)(?P<server>[^@?]*)(?P<query>\?.*)?"
)
_SECRET_WORDS = ("password", "secret")


def without_password(url: str) -> str:
    """Return a URL with ``***`` for its passwords; any other text is replaced, because it may hold one anywhere."""
    if not url or not (parts := _PARTS.fullmatch(url)):
        return NOT_SHOWN if url else ""
    user, colon, _ = parts["credentials"].partition(":")
    shown = f"{user}:{MASK}@" if colon else user
    return parts["scheme"] + shown + parts["server"] + "&".join(map(_masked, (parts["query"] or "").split("&")))


def has_password(url: str) -> bool:
    """Return whether a URL, or a text in its place, may contain a password."""
    return without_password(url) != url.strip()


def _masked(parameter: str) -> str:
    """Return ``name=value`` of a query with a mask for the value of a password."""
    name, equals, _ = parameter.partition("=")
    is_secret = any(word in unquote(parameter).lower() for word in _SECRET_WORDS)
    return f"{name}={MASK}" if equals and is_secret else parameter
