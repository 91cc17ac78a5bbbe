"""The history of a chaos run: each operation of each client, and what came of it, as JSON lines.

{"id": 7, "event": "invoke", "client": "ann", "op": "add", "args": {"title": "…"}, "at": 12.3, "date": "2026-12-01"}
{"id": 7, "event": "ok", "answer": {…}, "warnings": [], "at": 12.4, "date": "2026-12-01"}
{"event": "final", "at": 80.1, "ledger": […], "tasks": […], …}

``ok`` is acknowledged, ``refused`` surely had no effect, ``doubt`` may have had one, also later. ``at`` is in seconds;
``date`` is the date of the company's clock at that instant.
"""

import itertools
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from tests.cluster.chaos.clock import ShiftedClock


class History:
    """A file of JSON lines to which several threads write."""

    def __init__(self, path: Path, clock: ShiftedClock) -> None:
        self._file = path.open("ab")
        self._clock = clock
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self.counts: dict[str, int] = {}

    def invoke(self, client: str, operation: str, arguments: dict[str, Any]) -> int:
        """Write that a client begins an operation; return the operation's number."""
        number = next(self._ids)
        self._write({"id": number, "event": "invoke", "client": client, "op": operation, "args": arguments})
        return number

    def complete(self, number: int, event: str, **fields: Any) -> None:
        """Write what came of an operation."""
        self._write({"id": number, "event": event, **fields})

    def observe(self, **fields: Any) -> None:
        """Write the state in which no operation runs and all events are consumed."""
        self._write({"event": "final", **fields})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, document: dict[str, Any]) -> None:
        with self._lock:
            self.counts[document["event"]] = self.counts.get(document["event"], 0) + 1
            document |= {"at": round(time.monotonic(), 4), "date": self._clock.now().date().isoformat()}
            self._file.write(msgspec.json.encode(document) + b"\n")
            self._file.flush()
