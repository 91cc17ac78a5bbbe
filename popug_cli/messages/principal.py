"""Who asks."""

from dataclasses import dataclass

from popug_cli.messages.base import Role


@dataclass(frozen=True, slots=True)
class Principal:
    """The one on whose behalf something is done: a person with a token, or the operator of the home.

    ``user_id``, ``role`` and ``token_id`` are empty where no person is meant.
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
