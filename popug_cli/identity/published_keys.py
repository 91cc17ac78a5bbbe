"""The public keys that verify the company's tokens.

A home verifies with the files of its own keys. Homes that share a database each sign with their own key, and publish
it in the table ``identity_keys``. The other services of a cluster have no key of their own: they copy the keys of
identity into that table from the events ``key_published``, and verify with the copies.
"""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from popug_cli.bus.context import Context, Runtime
from popug_cli.identity import keys, tokens
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.messages.identity import KeyPublished
from popug_cli.messages.principal import ANONYMOUS

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNING_SERVICES = ("", "identity")  # empty: a company with one database; all other services verify with copies
VOID = ""  # stored instead of a key that verifies no token any more, so that its event does not bring it back
SELECT_KEY = "SELECT public_key FROM identity_keys WHERE kid = :kid"
UPSERT_VOID_KEY = (
    "INSERT INTO identity_keys (kid, public_key, added_at) VALUES (?, '', ?)"
    " ON CONFLICT (kid) DO UPDATE SET public_key = excluded.public_key"
)
INSERT_KEY = "INSERT INTO identity_keys (kid, public_key, added_at) VALUES (?, ?, ?) ON CONFLICT (kid) DO NOTHING"


def find_key(runtime: Runtime) -> tokens.FindKey:
    """Return a function that finds a public key by its id: in the home, else among those in a shared database.

    It raises ``key_invalid`` or ``insecure_file``.
    """
    if not runtime.database.is_shared:
        return partial(keys.public_key, runtime.home)
    return partial(_find, runtime)


def ensure_own_key(runtime: Runtime) -> None:
    """Make a signing key for this home if it has none or a void one, and publish the home's keys.

    Raise ``key_invalid`` or ``insecure_file``.
    """
    kid = keys.active_key_id(runtime.home)
    with runtime.reading(ANONYMOUS) as context:
        if kid and is_published(context, kid) and not is_void(context, kid):
            return
    with runtime.writing(ANONYMOUS) as context:
        if kid and is_void(context, kid):
            keys.make_signing_key(context.home, context.randomness, context.on_rollback)
        keys.create_first_key(context.home, context.randomness, context.on_rollback)
        publish(context)


def is_published(context: Context, kid: str) -> bool:
    """Return whether an event has published the key with that id."""
    return bool(context.log.by_subject(kid, KeyPublished))


def is_void(context: Context, kid: str) -> bool:
    """Return whether a restore made a key void."""
    return context.connection.scalar(SELECT_KEY, kid=kid) == VOID  # type: ignore[no-any-return]


def published_key_ids(context: Context) -> set[str]:
    """Return the ids of all keys that identity has published or that the database knows."""
    published = {str(event.subject) for event in context.log.by_type(KeyPublished)}
    return published.union(context.connection.column("SELECT kid FROM identity_keys"))


def make_void(context: Context, key_ids: Iterable[str]) -> None:
    """Let keys verify no token any more, also if the events that publish them are yet to be consumed."""
    now = to_rfc3339(context.now)
    context.connection.execute_many(UPSERT_VOID_KEY, [(kid, now) for kid in sorted(key_ids)])


def publish(context: Context) -> None:
    """Store the home's public keys, and publish each that no event has; raise ``key_invalid`` or ``insecure_file``."""
    for kid, public_key in store_own(context):
        if not is_published(context, kid):
            context.events.publish(KeyPublished(kid=kid, public_key=public_key))


def store_own(context: Context) -> list[tuple[str, str]]:
    """Store the home's public keys in the database of ``context`` without an event; return them as in ``store``.

    Raise ``key_invalid`` or ``insecure_file``.
    """
    own = [(key["kid"], key["x"]) for key in keys.public_keys(context.home)]
    store(context, own)
    return own


def store(context: Context, public_keys: list[tuple[str, str]]) -> None:
    """Store public keys, given as id and key in base64url; a known key stays as it is."""
    now = to_rfc3339(context.now)
    context.connection.execute_many(INSERT_KEY, [(kid, public_key, now) for kid, public_key in public_keys])


def key_set(context: Context) -> list[dict[str, str]]:
    """Return the home's public keys as JWKs (RFC 8037), then those of other homes; none that are void."""
    own = [key for key in keys.public_keys(context.home) if not is_void(context, key["kid"])]
    own_ids = {key["kid"] for key in own}
    rows = context.connection.select(
        "SELECT kid, public_key FROM identity_keys WHERE public_key <> ? ORDER BY added_at, kid", VOID
    )
    return own + [keys.published_jwk(kid, public_key) for kid, public_key in rows if kid not in own_ids]


def find_key_in(context: Context) -> tokens.FindKey:
    """Return a function like that of ``find_key``; it reads in the transaction of ``context``."""
    return partial(_find_in, context)


def stored_key(context: Context, kid: str) -> "Ed25519PublicKey | None":
    """Return the key in the table with that id, or None if there is none, if it is void, or if the id is another."""
    public_key = context.connection.scalar(SELECT_KEY, kid=kid)
    return None if public_key is None else keys.load_public_key(kid, public_key)


def _find(runtime: Runtime, kid: str) -> "Ed25519PublicKey | None":
    """Look in the home first: only a restored cluster has void keys, and a token is verified without the database."""
    if not runtime.service and (own := keys.public_key(runtime.home, kid)) is not None:
        return own
    with runtime.reading(ANONYMOUS) as context:
        return _find_in(context, kid)


def _find_in(context: Context, kid: str) -> "Ed25519PublicKey | None":
    if is_void(context, kid):
        return None
    return keys.public_key(context.home, kid) or stored_key(context, kid)
