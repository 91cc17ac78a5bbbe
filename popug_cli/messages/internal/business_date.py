"""The date that money counts for: an internal message of tasks, in its own file because each `task add` sends it."""

from datetime import date

import msgspec

from popug_cli.messages.base import EVERYONE, Query, declare


class BusinessDate(msgspec.Struct, frozen=True):
    """The business date of what happens now; ``today`` is the date in the company's time zone."""

    business_date: date
    today: date


@declare("task add", roles=EVERYONE, handler="tasks.days")
class GetBusinessDate(Query[BusinessDate], frozen=True):
    """Return the date that money which moves now counts for."""
