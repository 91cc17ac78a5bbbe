"""The principal: the user or process on whose behalf a message is performed."""

from dataclasses import dataclass, field
from typing import NamedTuple

from popug_cli.messages.base import Role


class TokenTerms(NamedTuple):
    """The terms of a verified token: its kind, the position of its ``token_issued``, and its expiry."""

    kind: str
    position: int
    expires_at_seconds: int


@dataclass(frozen=True, slots=True)
class Principal:
    """The user or process on whose behalf a message is performed.

    It is a user with a token, the operator, the scheduler, or ``ANONYMOUS``: a sender without a token, or the program's
    own consumers. ``user_id``, ``role`` and ``token_id`` are empty if it is not a user. ``scope`` is that of the token.
    ``terms`` are those of the token, None if an older popug issued it; they do not distinguish principals.
    """

    username: str
    user_id: str = ""
    role: Role | None = None
    token_id: str = ""
    scope: str | None = None
    terms: TokenTerms | None = field(default=None, compare=False)


OPERATOR = Principal("operator")
SCHEDULER = Principal("scheduler")
ANONYMOUS = Principal("nobody")
RESERVED_USERNAMES = frozenset({OPERATOR.username, SCHEDULER.username})
