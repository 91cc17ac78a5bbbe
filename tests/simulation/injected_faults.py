"""Faults in a world: crashes, failing consumers, deliveries out of order."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from popug_cli.messages.billing import TaskPriced

T = TypeVar("T")
PLANNED = "planned by the simulation"
ALL_AT_ONCE = 10_000


class Crash(BaseException):
    """The process is killed here."""


class CutShort(BaseException):
    """The process dies after its command's commit, before the consumers run."""


class Disturbed(RuntimeError):
    """A consumer fails because the simulation makes it fail."""


@dataclass
class Disturbances:
    """The present faults."""

    wild: bool
    down: set[str] = field(default_factory=set)
    poisoned: set[tuple[str, str]] = field(default_factory=set)
    crash_in: int = 0
    crash_where: str = ""
    mixing: random.Random | None = None
    batch_size: int = ALL_AT_ONCE

    def heal(self) -> None:
        """Remove every fault."""
        self.down.clear()
        self.poisoned.clear()
        self.crash_where = ""
        self.mixing, self.batch_size = None, ALL_AT_ONCE

    def refuse(self, consumer: str, events: Sequence[Any]) -> None:
        """Raise if the consumer must fail for one of the events."""
        if not self.down and not self.poisoned:
            return
        for event in events:
            bad = consumer in self.down or (consumer, event.subject) in self.poisoned
            if bad and (self.wild or consumer != "tasks" or isinstance(event.data, TaskPriced)):
                raise Disturbed(PLANNED)

    def is_time_to_crash(self, where: str) -> bool:
        """Return whether the process dies at this point of this write transaction."""
        return self.crash_in <= 0 and self.crash_where == where

    def next_transaction(self) -> None:
        """Count down to the crash."""
        if self.crash_where:
            self.crash_in -= 1

    def deliveries(self, consumer: str, events: Sequence[Any]) -> list[list[Any]]:
        """Mix the events between keys, in order within each key, and divide them into batches.

        Draws in tasks depend on the users in a batch, so tasks gets one whole batch. Only its price events are mixed,
        or all of its events in a wild world.
        """
        if self.mixing is None or len(events) < 2:
            return [list(events)]
        if consumer == "tasks":
            return [_mixed(events, self.mixing) if self.wild else _prices_mixed(events, self.mixing)]
        mixed = _mixed(events, self.mixing)
        cut = self.mixing.randrange(len(mixed))
        return [part for part in (mixed[:cut], mixed[cut:]) if part]


def _mixed(events: Sequence[Any], chance: random.Random) -> list[Any]:
    by_subject: dict[str, list[Any]] = {}
    for event in events:
        by_subject.setdefault(event.subject, []).append(event)
    turns = [event.subject for event in events]
    chance.shuffle(turns)
    places = dict.fromkeys(by_subject, 0)
    mixed = []
    for subject in turns:
        mixed.append(by_subject[subject][places[subject]])
        places[subject] += 1
    return mixed


def _prices_mixed(events: Sequence[Any], chance: random.Random) -> list[Any]:
    prices = [event for event in events if isinstance(event.data, TaskPriced)]
    mixed = [event for event in events if not isinstance(event.data, TaskPriced)]
    for price in prices:
        mixed.insert(chance.randrange(len(mixed) + 1), price)
    return mixed
