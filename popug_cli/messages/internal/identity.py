"""Internal messages of identity."""

import msgspec

from popug_cli.messages.base import ACCOUNTING, Query, declare
from popug_cli.messages.identity import Scope


class LogHead(msgspec.Struct, frozen=True):
    """The position of the last event of a log, 0 if it is empty."""

    position: int


@declare("close-day", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}))
class GetLogHead(Query[LogHead], frozen=True):
    """Return the head of the log: identity has acknowledged nothing that stands after it.

    The service of tasks asks for it before it ends a day, so that the effects of all those events come before the end.
    """
