"""Known devices: a signed token proves that a device has logged in as a user before.

It is not a login and permits nothing. A login that presents it has its own count of wrong passwords, so other devices
cannot lock it out (OWASP, "Device cookies"). Nothing is stored: the signature is the proof. Its id (`jti`) names the
device.
"""

from datetime import datetime

import msgspec

from popug_cli.bus.context import Context
from popug_cli.identity import keys, tokens
from popug_cli.identity.rules import MAX_TOKEN_LIFETIME, lower_username
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.identity import User

AUDIENCE = "popug-device"
LIFETIME = MAX_TOKEN_LIFETIME


def issue(context: Context, user: User, device_id: str | None) -> str:
    """Sign a token for a device on which the user has logged in; `device_id` is None for a new device.

    Raise ``key_invalid`` or ``insecure_file``.
    """
    issued_at_seconds = int(context.now.timestamp())
    claims = tokens.CommonClaims(
        iss=tokens.issuer_of(context.home_id),
        aud=AUDIENCE,
        iat=issued_at_seconds,
        exp=issued_at_seconds + int(LIFETIME.total_seconds()),
        sub=user.user_id,
        jti=device_id or context.events.new_id(),
        username=user.username,
    )
    return tokens.sign(claims, keys.signing_key(context.home))


def known_device(
    device_token: str | None, username: str, find_key: tokens.FindKey, home_id: str, now: datetime
) -> str | None:
    """Return the id of a device that has logged in as `username`; None if the token does not prove that.

    ``find_key`` finds public keys by their ids.
    """
    if device_token is None:
        return None
    try:
        payload = tokens.signed_payload(device_token, find_key)
        claims = msgspec.json.decode(payload, type=tokens.CommonClaims)
    except (PopugError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    is_valid = (
        claims.iss == tokens.issuer_of(home_id)
        and claims.aud == AUDIENCE
        and claims.username == lower_username(username)
        and now.timestamp() < claims.exp
    )
    return claims.jti if is_valid else None
