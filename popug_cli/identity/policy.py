"""Verify tokens and authorize their owners, by the policy of the service that the database belongs to.

A company with one database, and the service identity, check the stored tokens. Every other service of a cluster checks
its copies; see ``service_authorization.py``.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from popug_cli.bus.context import Context, Runtime
from popug_cli.identity import authorization, tokens
from popug_cli.messages.base import Declaration, Message
from popug_cli.messages.principal import Principal

Authorize = Callable[[Principal, Declaration, Message[Any], Context], None]


class Policy(NamedTuple):
    """The decisions about a token: what a valid one says, and what its owner may do.

    ``authorize`` is for a message that the owner sends, and ``authorize_asked`` for a part that another service asks
    for on behalf of the owner.
    """

    verify: Callable[[str, Runtime], tokens.Claims]
    authorize: Authorize
    authorize_asked: Authorize


STORED_TOKENS = Policy(authorization.verify, authorization.authorize, authorization.authorize_asked)


def policy_of(service: str) -> Policy:
    """Return the policy of a service, or that of a company with one database if ``service`` is empty."""
    if not service:
        return STORED_TOKENS
    from popug_cli.identity import service_authorization

    if service == "identity":
        return STORED_TOKENS._replace(verify=service_authorization.verify_at_identity)
    authorize_here = service_authorization.authorize
    return Policy(service_authorization.verify, authorize_here, authorize_here)


def verify(token: str, runtime: Runtime) -> tokens.Claims:
    """Return the claims of a valid token; raise the errors of ``authenticate``."""
    return policy_of(runtime.service).verify(token, runtime)


def authenticate(token: str, runtime: Runtime) -> Principal:
    """Return the owner of a token, verified without the stored tokens.

    Raise ``token_invalid``, ``token_expired``, ``token_revoked``, ``key_invalid`` or ``insecure_file``, and in a
    service of a cluster ``behind``.
    """
    return authorization.principal_of(verify(token, runtime))


def authorize(principal: Principal, declaration: Declaration, message: Message[Any], context: Context) -> None:
    """Check that a principal may send a message; raise the errors of ``authorization.authorize``, or ``behind``."""
    policy_of(context.service).authorize(principal, declaration, message, context)


def authorize_asked(principal: Principal, declaration: Declaration, message: Message[Any], context: Context) -> None:
    """Check that another service may ask for a part here on behalf of a principal; raise as ``authorize`` does."""
    policy_of(context.service).authorize_asked(principal, declaration, message, context)
