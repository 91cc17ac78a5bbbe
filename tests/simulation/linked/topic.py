"""A topic in memory, which may lose records."""

from collections.abc import Sequence

from popug_cli.bus.records import TopicRecord


class MemoryTopic:
    """The records of one service in the order of their offsets, without those that were lost."""

    def __init__(self) -> None:
        self.records: list[TopicRecord | None] = []

    def produce(self, records: Sequence[TopicRecord]) -> None:
        self.records += records

    def read(self, offset: int, limit: int) -> list[tuple[int, TopicRecord]]:
        found: list[tuple[int, TopicRecord]] = []
        for place in range(offset, len(self.records)):
            if len(found) == limit:
                break
            if (record := self.records[place]) is not None:
                found.append((place, record))
        return found

    def lose(self, offset: int) -> None:
        """Lose the record at an offset."""
        self.records[offset] = None
