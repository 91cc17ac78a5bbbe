"""The amount at stake in an event that billing has parked."""

from typing import Any

from popug_cli.billing.prices import prices_of
from popug_cli.bus.context import Context
from popug_cli.bus.queries import ParkedEvent, document, list_parked_events
from popug_cli.messages.base import Event
from popug_cli.messages.internal.billing import AmountsAtStake, GetAmountsAtStake
from popug_cli.messages.tasks import TaskAssigned, TaskCompleted
from popug_cli.messages.upcasters import versions


def get_amounts_at_stake(message: GetAmountsAtStake, context: Context) -> AmountsAtStake:
    """Return the amounts at stake in the events that billing has parked: in one of them, or in all."""
    parked_events = [
        parked
        for parked in list_parked_events(context)
        if parked.consumer == "billing" and message.dead_id in {None, parked.id}
    ]
    return AmountsAtStake({parked.id: amount_at_stake_cents(parked, context) for parked in parked_events})


def amount_at_stake_cents(parked: ParkedEvent, context: Context) -> int:
    """Return the fee of an assignment or the reward of a completion that billing has parked, in cents; else 0.

    The amount is also 0 if the task has no price yet. The task id is read from the subject (the ordering key), because
    the data may be the reason why the event was parked.
    """
    if parked.consumer != "billing":
        return 0
    fields = document(parked.sequence, parked.envelope)
    task_id = str(fields.get("subject"))
    price = prices_of([task_id], context).get(task_id)
    if price is None:
        return 0
    if _is_of_kind(TaskAssigned, fields):
        return price.fee_cents
    return price.reward_cents if _is_of_kind(TaskCompleted, fields) else 0


def _is_of_kind(kind: type[Event], fields: dict[str, Any]) -> bool:
    return fields.get("type") in {version.TYPE for version in versions(kind)}
