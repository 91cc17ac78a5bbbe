"""The money that hangs on an event that nobody could take yet."""

from typing import Any

from popug_cli.billing.prices import prices_of
from popug_cli.bus.context import Context
from popug_cli.bus.queries import ParkedEvent, document
from popug_cli.messages.base import Event
from popug_cli.messages.tasks import TaskAssigned, TaskCompleted
from popug_cli.messages.upcasters import versions


def amount_at_stake_cents(held: ParkedEvent, context: Context) -> int:
    """The fee of an assignment or the reward of a completion that billing has set aside; 0 of anything else.

    The task is read from the ordering key, for the data may be what could not be taken.
    """
    if held.consumer != "billing":
        return 0
    fields = document(held.sequence, held.envelope)
    task_id = str(fields.get("subject"))
    price = prices_of([task_id], context).get(task_id)
    if price is None:
        return 0
    if _is_a(TaskAssigned, fields):
        return price.fee_cents
    return price.reward_cents if _is_a(TaskCompleted, fields) else 0


def _is_a(kind: type[Event], fields: dict[str, Any]) -> bool:
    return fields.get("type") in {shape.TYPE for shape in versions(kind)}
