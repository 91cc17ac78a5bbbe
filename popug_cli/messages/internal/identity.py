"""Internal messages of identity."""

from datetime import datetime

import msgspec

from popug_cli.messages.base import EVERYONE, Count, Query, Role, declare


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
