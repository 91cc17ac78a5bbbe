"""The answer of `task add` and `task complete`: an internal message of tasks, in its own file for a quick start."""

from popug_cli.messages.base import EVERYONE, Query, declare
from popug_cli.messages.tasks import ChangedTask


@declare("task add", roles=EVERYONE, handler="tasks.queries")
class GetChangedTask(Query[ChangedTask], frozen=True, kw_only=True):
    """Return a task that a command has changed, and the date that money which moves now counts for."""

    number: int
