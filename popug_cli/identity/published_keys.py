"""The public keys of all homes that use one database: each server signs with a key of its own, and verifies all."""

from functools import partial
from typing import TYPE_CHECKING

from popug_cli.bus.context import Context, Runtime
from popug_cli.identity import keys, tokens
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.principal import ANONYMOUS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

IS_PUBLISHED = "SELECT 1 FROM identity_keys WHERE kid = :kid"


def find_key(runtime: Runtime) -> tokens.FindKey:
    """Return a function that finds a public key by its id: in the home, else among those in a shared database.

    It raises ``key_invalid`` or ``insecure_file``.
    """
    if not runtime.database.is_shared:
        return partial(keys.public_key, runtime.home)
    return partial(_find, runtime)


def ensure_own_key(runtime: Runtime) -> None:
    """Make a signing key for this home if it has none, and publish its public key in a shared database.

    Raise ``key_invalid`` or ``insecure_file``.
    """
    kid = keys.active_key_id(runtime.home)
    with runtime.reading(ANONYMOUS) as context:
        if kid and context.connection.scalar(IS_PUBLISHED, kid=kid):
            return
    with runtime.writing(ANONYMOUS) as context:
        keys.create_first_key(context.home, context.randomness, context.on_rollback)
        publish(context)


def publish(context: Context) -> None:
    """Store the home's public keys; raise ``key_invalid`` or ``insecure_file``."""
    now = to_rfc3339(context.now)
    context.connection.execute_many(
        "INSERT INTO identity_keys (kid, public_key, added_at) VALUES (?, ?, ?) ON CONFLICT (kid) DO NOTHING",
        [(key["kid"], key["x"], now) for key in keys.public_keys(context.home)],
    )


def key_set(context: Context) -> list[dict[str, str]]:
    """Return the home's public keys as JWKs (RFC 8037), then those of other homes."""
    own = keys.public_keys(context.home)
    own_ids = {key["kid"] for key in own}
    rows = context.connection.select("SELECT kid, public_key FROM identity_keys ORDER BY added_at, kid")
    return own + [keys.published_jwk(kid, public_key) for kid, public_key in rows if kid not in own_ids]


def find_key_in(context: Context) -> tokens.FindKey:
    """Return a function like that of ``find_key``; it reads in the transaction of ``context``."""
    return partial(_find_in, context)


def _find(runtime: Runtime, kid: str) -> "Ed25519PublicKey | None":
    if (own := keys.public_key(runtime.home, kid)) is not None:
        return own
    with runtime.reading(ANONYMOUS) as context:
        return _find_in(context, kid)


def _find_in(context: Context, kid: str) -> "Ed25519PublicKey | None":
    if (own := keys.public_key(context.home, kid)) is not None:
        return own
    public_key = context.connection.scalar("SELECT public_key FROM identity_keys WHERE kid = :kid", kid=kid)
    return None if public_key is None else keys.load_public_key(kid, public_key)
