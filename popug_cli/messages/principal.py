"""The principal: the user or process on whose behalf a message is performed."""

from dataclasses import dataclass

from popug_cli.messages.base import Role


@dataclass(frozen=True, slots=True)
class Principal:
    """The user or process on whose behalf a message is performed.

    It is a user with a token, the operator, the scheduler, or ``ANONYMOUS``: a sender without a token, or the program's
    own consumers. ``user_id``, ``role`` and ``token_id`` are empty if it is not a user. ``scope`` is that of the token.
    """

    username: str
    user_id: str = ""
    role: Role | None = None
    token_id: str = ""
    scope: str | None = None


OPERATOR = Principal("operator")
SCHEDULER = Principal("scheduler")
ANONYMOUS = Principal("nobody")
RESERVED_USERNAMES = frozenset({OPERATOR.username, SCHEDULER.username})
