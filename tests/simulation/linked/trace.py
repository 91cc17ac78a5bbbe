"""The recorded work of the five homes, in an order in which one process can repeat it.

Tasks' log gives the order. A command of tasks and a batch of its consumer stand where they were committed. A command of
billing stands after the last transaction of tasks that billing had consumed, because its result depends on no later
one. Commands of identity and mail stand where they were committed.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from popug_cli.messages.base import Message
from popug_cli.messages.principal import Principal


class Performed(NamedTuple):
    """A committed command. ``start`` is the end of tasks' log before it, for a command of tasks.

    ``consumed`` is the position of tasks' log that billing had consumed, for a command of billing. ``entry`` names the
    entry that a correction reverses, in words that hold in every run.
    """

    place: int
    service: str
    instant: datetime
    actor: Principal
    message: Message[Any]
    start: int = 0
    consumed: int = 0
    entry: str = ""


class Consumed(NamedTuple):
    """A committed batch of tasks' consumer: the ids of its events. ``start`` is the end of tasks' log before it."""

    instant: datetime
    event_ids: tuple[str, ...]
    start: int


Step = Performed | Consumed


def replay_order(steps: Iterable[Step]) -> list[Step]:
    """Return the steps in the order for one process."""
    ordered: list[tuple[tuple[int, int, int], Step]] = []
    starts: list[tuple[int, int]] = []
    last_of_billing = -1
    for number, step in enumerate(steps):
        if isinstance(step, Performed) and step.service == "billing":
            seen = [index for index, start in starts if start < step.consumed]
            last_of_billing = max(last_of_billing, seen[-1] if seen else -1)
            ordered.append(((last_of_billing, 1, number), step))
            continue
        if isinstance(step, Consumed) or step.service == "tasks":
            starts.append((number, step.start))
        ordered.append(((number, 0, number), step))
    return [step for _, step in sorted(ordered, key=lambda pair: pair[0])]
