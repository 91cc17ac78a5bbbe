"""A topic in memory, which may lose records."""

from collections.abc import Sequence

from popug_cli.bus.records import TopicRecord
from popug_cli.kernel.clock import Clock


class MemoryTopic:
    """The records of one service in the order of their offsets, without those that were lost; it stamps them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.records: list[TopicRecord | None] = []

    def produce(self, records: Sequence[TopicRecord]) -> None:
        stamp = int(self._clock.now().timestamp() * 1000)
        self.records += [record._replace(timestamp_ms=stamp) for record in records]

    def read(self, offset: int, limit: int, wait_seconds: float = 0.0) -> list[tuple[int, TopicRecord]]:
        found: list[tuple[int, TopicRecord]] = []
        for place in range(offset, len(self.records)):
            if len(found) == limit:
                break
            if (record := self.records[place]) is not None:
                found.append((place, record))
        return found

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def lose(self, offset: int) -> None:
        """Lose the record at an offset."""
        self.records[offset] = None
