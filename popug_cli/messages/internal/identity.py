"""Internal messages of identity."""

from datetime import datetime

import msgspec

from popug_cli.messages.base import ACCOUNTING, EVERYONE, Count, Query, Role, declare
from popug_cli.messages.identity import Scope


class RoleChange(msgspec.Struct, frozen=True):
    """A change of the sender's role; ``sequence`` is the position of its event in the log."""

    sequence: int
    at: datetime
    actor: str
    role: Role


class RoleChanges(msgspec.Struct, frozen=True):
    """The changes of the sender's role, oldest first."""

    changes: list[RoleChange]


@declare("today", roles=EVERYONE, handler="identity.today")
class ListRoleChanges(Query[RoleChanges], frozen=True, kw_only=True):
    """Return the changes of the sender's role after a position in the log."""

    after: Count


class LogHead(msgspec.Struct, frozen=True):
    """The position of the last event of a log, 0 if it is empty."""

    position: int


@declare("close-day", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}))
class GetLogHead(Query[LogHead], frozen=True):
    """Return the head of the log: identity has acknowledged nothing that stands after it.

    The service of tasks asks for it before it ends a day, so that the effects of all those events come before the end.
    """
