"""Authentication (verify a token) and authorization (check that it is not revoked, its scope, and its owner's role)."""

from typing import Any

from popug_cli.bus.context import Context, Runtime
from popug_cli.identity import published_keys, token_store, tokens
from popug_cli.identity.rules import lower_username, name_roles
from popug_cli.kernel.errors import NotAllowed, NotAuthenticated
from popug_cli.messages.base import Access, Declaration, Message, Role
from popug_cli.messages.principal import OPERATOR, SCHEDULER, Principal, TokenTerms


def verify(token: str, runtime: Runtime) -> tokens.Claims:
    """Return the claims of a token, verified without the stored tokens.

    Raise ``token_invalid``, ``token_expired``, ``key_invalid`` or ``insecure_file``.
    """
    issuer = tokens.issuer_of(runtime.home_id)
    return tokens.verify(token, published_keys.find_key(runtime), issuer, runtime.clock.now())


def principal_of(claims: tokens.Claims) -> Principal:
    """Return the principal that verified claims name."""
    terms = None
    if claims.kind is not None and claims.at is not None:
        terms = TokenTerms(claims.kind, claims.at, claims.exp)
    return Principal(claims.username, claims.sub, claims.role, claims.jti, claims.scope, terms)


def authorize(principal: Principal, declaration: Declaration, message: Message[Any], context: Context) -> None:
    """Check that a principal may send a message; messages that need no token are not checked.

    Raise ``token_revoked`` or ``token_expired`` (exit 4), or ``forbidden`` (exit 5). The operator and the scheduler may
    send every message. For a principal without a token only its scope and role are checked.
    """
    if declaration.access is not Access.TOKEN or principal in (OPERATOR, SCHEDULER):
        return
    stored = _check_not_revoked(principal, context) if principal.token_id else None
    check_scope(principal, declaration)
    check_role(principal, declaration, message)
    if stored is not None:
        check_kind(stored.token_id, stored.kind, declaration, message)


def authorize_part(principal: Principal, declaration: Declaration, message: Message[Any]) -> None:
    """Check that a principal, who was authorized for a message, may send another one that is a part of it.

    Its role decides, and its token is not checked again: the scope permits the whole message. Raise ``forbidden``.
    """
    if principal not in (OPERATOR, SCHEDULER):
        check_role(principal, declaration, message)


def authorize_asked(principal: Principal, declaration: Declaration, message: Message[Any], context: Context) -> None:
    """Check that another service may ask for a part on behalf of a principal, whose token must be valid here as well.

    Over HTTP, nothing shows that the whole message was authorized, so the scope of the token must permit the part.
    Raise ``token_revoked``, ``token_expired`` or ``forbidden``.
    """
    if principal.token_id:
        _check_not_revoked(principal, context)
    check_scope(principal, declaration)
    authorize_part(principal, declaration, message)


def _check_not_revoked(principal: Principal, context: Context) -> token_store.StoredToken:
    """Return the stored token if it is valid now and names its owner's present role, and record its use; else raise."""
    stored = token_store.find(context, principal.token_id)
    if (
        stored is None
        or stored.revoked_at is not None
        or not stored.active
        or Principal(stored.username, stored.user_id, stored.role, stored.token_id, stored.scope) != principal
    ):
        raise revoked()
    if stored.expires_at <= context.now:
        raise tokens.expired()
    token_store.record_use(context, stored)
    return stored


def revoked() -> NotAuthenticated:
    """Return the error for a token that is revoked or void."""
    return NotAuthenticated("token_revoked", "Your login or token was revoked.", hint="Run `popug login NAME`.")


def check_kind(token_id: str, kind: str, declaration: Declaration, message: Message[Any]) -> None:
    """Refuse a machine token that would set a password or issue a token, and so outlive its own revocation."""
    if kind == token_store.MACHINE and declaration.is_secret and getattr(message, "password", "") is not None:
        raise NotAllowed(
            "forbidden",
            "A machine token may neither set a password nor issue a token.",
            hint="Unset POPUG_TOKEN and run `popug login NAME`, then repeat the command.",
            details={"command": declaration.command_line, "token_id": token_id},
        )


def check_scope(principal: Principal, declaration: Declaration) -> None:
    """Raise ``forbidden`` if the token is limited to a scope that does not permit the message."""
    if principal.scope is not None and principal.scope not in declaration.scopes:
        raise NotAllowed(
            "forbidden",
            f"This token may be used for {principal.scope} only, not for `popug {declaration.command_line}`.",
            hint="Log in, or issue a token without that scope.",
            details={"command": declaration.command_line, "scope": principal.scope},
        )


def check_role(principal: Principal, declaration: Declaration, message: Message[Any]) -> frozenset[Role]:
    """Return the roles that may send the message; raise ``forbidden`` if that of the principal is not among them."""
    target_username: str | None = getattr(message, "username", None)
    concerns_another_user = target_username is not None and lower_username(target_username) != principal.username
    allowed = declaration.roles_for_others if concerns_another_user else declaration.roles
    if principal.role in allowed:
        return allowed
    for_another_user = " for another user" if principal.role in declaration.roles else ""
    raise NotAllowed(
        "forbidden",
        f"Only {name_roles(allowed)} may use `popug {declaration.command_line}`{for_another_user}.",
        hint="Run `popug permissions` to see who may do what.",
        details={"command": declaration.command_line, "roles": sorted(allowed)},
    )
