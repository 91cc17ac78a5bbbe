"""Internal messages of analytics."""

from datetime import date

import msgspec

from popug_cli.messages.analytics import MostExpensiveTask
from popug_cli.messages.base import ACCOUNTING, Query, declare
from popug_cli.messages.identity import Scope


class TopTask(msgspec.Struct, frozen=True):
    """The most expensive completed task of a date, or None if it has none."""

    task: MostExpensiveTask | None


@declare("close-day", roles=ACCOUNTING, scopes=frozenset({Scope.CLOSE_DAY}))
class GetMostExpensiveTask(Query[TopTask], frozen=True, kw_only=True):
    """Return the completed task with the highest reward of a date; the ledger shows it to accountants as well."""

    day: date
