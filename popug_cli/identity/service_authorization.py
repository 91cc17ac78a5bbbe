"""Verify tokens and authorize their owners in a service of a cluster, which does not have identity's tables.

The service has copies of the public keys and a deny list. So a login works here at once, also while no event arrives.
While nothing arrives from identity, a revocation may be missing. So after ``MAX_SILENCE`` the service refuses to send
mail, and refuses all messages that a worker may not send.
"""

from datetime import datetime, timedelta
from functools import partial
from threading import BoundedSemaphore
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from popug_cli.bus import parked_events
from popug_cli.bus.catch_up import catch_up
from popug_cli.bus.context import Context, Runtime
from popug_cli.identity import authorization, published_keys, token_copies, tokens
from popug_cli.identity.consumers import CONSUMER
from popug_cli.kernel.errors import NotAuthenticated, Unavailable
from popug_cli.messages.base import Access, Declaration, Message, Role
from popug_cli.messages.principal import ANONYMOUS, OPERATOR, SCHEDULER, Principal, TokenTerms

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAX_SILENCE = timedelta(seconds=60)
KEY_WAIT_SECONDS = 5.0
KEY_POLL_SECONDS = 0.1
MAX_WAITING_THREADS = 2  # so that forged tokens cannot hold all threads of a server
SENDING_MAIL = "mail send"
_waiting_threads = BoundedSemaphore(MAX_WAITING_THREADS)


def verify_at_identity(token: str, runtime: Runtime) -> tokens.Claims:
    """Return the claims of a valid token at identity, where a token from before the cluster is void as well."""
    return _require_position(authorization.verify(token, runtime))


def verify(token: str, runtime: Runtime) -> tokens.Claims:
    """Return the claims of a token, verified with the copies of identity's keys.

    Raise ``token_invalid``, ``token_expired``, ``token_revoked`` for a token from before the cluster, or ``behind`` if
    its key has not arrived within ``KEY_WAIT_SECONDS``.
    """
    issuer, now = tokens.issuer_of(runtime.home_id), runtime.clock.now()
    claims = tokens.unverified_claims(token)  # only a token with valid claims is worth a wait for its key
    tokens.check_claims(claims, issuer, now)
    position = _require_position(claims).at
    assert position is not None
    return tokens.verify(token, partial(_find_key, runtime, position), issuer, now)


def authorize(principal: Principal, declaration: Declaration, message: Message[Any], context: Context) -> None:
    """Check that a principal may send a message here, or that another service may ask for it as a part on its behalf.

    Raise what ``authorization.authorize`` raises, or ``behind`` (exit 8) if the message needs news of identity that the
    service does not have.
    """
    if declaration.access is not Access.TOKEN:
        return
    is_mail = declaration.command_line == SENDING_MAIL
    if principal in (OPERATOR, SCHEDULER):
        if is_mail:
            require_news(context)
        return
    terms = _require_not_void(principal, context) if principal.token_id else None
    authorization.check_scope(principal, declaration)
    allowed = authorization.check_role(principal, declaration, message)
    if terms is not None:
        authorization.check_kind(principal.token_id, terms.kind, declaration, message)
        if is_mail or Role.WORKER not in allowed:
            require_news(context)


def require_news(context: Context) -> None:
    """Raise ``behind`` unless the service has consumed all news of identity up to less than a minute ago."""
    if reason := missing_news(context):
        raise Unavailable(
            "behind",
            f"{context.service} cannot know which tokens are void now (behind): {reason}.",
            hint="Try again when `popug events status` shows that identity's events arrive.",
            details={"service": context.service},
        )


def missing_news(context: Context) -> str | None:
    """Return why the service may lack news of identity, or None if it is up to date."""
    if parked_events.set_aside_states(context, CONSUMER.name) - {"dropped"}:
        return "events about tokens are set aside, see `popug events dead`"
    watermark = token_copies.consumed_watermark(context)
    if watermark is None:
        return "nothing has arrived from identity yet"
    silence = context.now - watermark.stamped_at
    if silence >= MAX_SILENCE:
        return f"nothing newer than {_text_of(watermark.stamped_at, context)} has arrived from identity"
    if silence <= -MAX_SILENCE:
        return f"the broker's clock is ahead of this machine's, by {-silence // timedelta(seconds=1)} seconds"
    return None


def _text_of(instant: datetime, context: Context) -> str:
    return f"{context.calendar.local(instant):%Y-%m-%d %H:%M:%S}"


def _require_position(claims: tokens.Claims) -> tokens.Claims:
    if claims.at is None or claims.kind is None:
        raise NotAuthenticated(
            "token_revoked",
            "Your login or token is from before the company became a cluster, so it is void.",
            hint="Run `popug login NAME`.",
        )
    return claims


def _require_not_void(principal: Principal, context: Context) -> TokenTerms:
    """Return the terms of a token that is neither void nor expired; else raise."""
    terms = principal.terms
    if terms is None or token_copies.is_void(
        context, principal.token_id, principal.user_id, terms.kind, terms.position
    ):
        raise authorization.revoked()
    if context.now.timestamp() >= terms.expires_at_seconds:
        raise tokens.expired()
    return terms


def _find_key(runtime: Runtime, position: int, kid: str) -> "Ed25519PublicKey | None":
    """Return the copy of a key, or None if identity had not published it before ``position``; else wait for it."""
    key, is_final = _look_up(runtime, position, kid)
    if is_final:
        return key
    if not _waiting_threads.acquire(blocking=False):
        raise _key_missing(runtime, kid)
    try:
        give_up_at = monotonic() + KEY_WAIT_SECONDS
        while monotonic() < give_up_at:
            catch_up(runtime, (CONSUMER,))
            key, is_final = _look_up(runtime, position, kid)
            if is_final:
                return key
            sleep(KEY_POLL_SECONDS)
    finally:
        _waiting_threads.release()
    raise _key_missing(runtime, kid)


def _look_up(runtime: Runtime, position: int, kid: str) -> tuple["Ed25519PublicKey | None", bool]:
    """Return the copy of a key, and whether waiting is useless: it is there, or all events up to ``position`` are."""
    with runtime.reading(ANONYMOUS) as context:
        key = published_keys.stored_key(context, kid)
        watermark = token_copies.consumed_watermark(context)
        has_all = watermark is not None and watermark.position >= position
        is_known = key is not None or published_keys.is_void(context, kid)
        return key, is_known or (has_all and not parked_events.set_aside_states(context, CONSUMER.name))


def _key_missing(runtime: Runtime, kid: str) -> Unavailable:
    return Unavailable(
        "behind",
        f"{runtime.service} has not received the key of this token from identity yet (behind).",
        hint="Try again in a moment; if this lasts, run `popug login NAME`.",
        details={"service": runtime.service, "kid": kid},
    )
