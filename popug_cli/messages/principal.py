"""The principal: the user or process on whose behalf a message is performed."""

from dataclasses import dataclass

from popug_cli.messages.base import Role


@dataclass(frozen=True, slots=True)
class Principal:
    """The user or process on whose behalf a message is performed: a user with a token, the operator or the scheduler.

    ``user_id``, ``role`` and ``token_id`` are empty if the principal is not a user.
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
