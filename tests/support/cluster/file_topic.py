"""A topic in a file, which several processes share."""

import fcntl
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from popug_cli.bus.records import TopicRecord
from popug_cli.cluster.links import Topic
from popug_cli.messages.services import SERVICES

POLL_SECONDS = 0.01
_decode = msgspec.json.Decoder(TopicRecord).decode


def topics_in(folder: Path) -> Mapping[str, Topic]:
    """Return the topics of all services in a folder; the files are created with the first records."""
    return {service: FileTopic(folder / f"{service}.topic") for service in SERVICES}


class FileTopic:
    """The records of one service, one line each; a lock of the file orders those of several writers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: list[TopicRecord] = []
        self._read_bytes = 0

    def produce(self, records: Sequence[TopicRecord]) -> None:
        with self._path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            stamp = int(time.time() * 1000)
            file.writelines(msgspec.json.encode(record._replace(timestamp_ms=stamp)) + b"\n" for record in records)

    def read(self, offset: int, limit: int, wait_seconds: float = 0.0) -> list[tuple[int, TopicRecord]]:
        deadline = time.monotonic() + wait_seconds
        self._read_new()
        while offset >= len(self._records) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            self._read_new()
        return list(enumerate(self._records[offset : offset + limit], start=offset))

    def close(self) -> None:
        """Do nothing: nothing is open between the calls."""

    def _read_new(self) -> None:
        """Read the lines that are complete."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_bytes)
            complete, _, _ = file.read().rpartition(b"\n")
        if complete:
            self._records += [_decode(line) for line in complete.split(b"\n")]
            self._read_bytes += len(complete) + 1
