"""Writers that add tasks while the database fails: some over a server with idempotency keys, some in this process."""

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.tasks import AddTask
from popug_cli.storage.postgres import commit
from tests.support.postgres.replicated import ReplicatedCompany
from tests.support.running_server import RunningServer

PAUSE_SECONDS = 0.02
is_committed_really = commit._is_committed
END_SECONDS = 120
IN_DOUBT = "in_doubt"


@dataclass
class Tally:
    """The answers to the writers: titles of acknowledged tasks with the time of the answer, and the error codes."""

    acknowledged: dict[str, float] = field(default_factory=dict)
    in_doubt: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    decided: Counter[bool] = field(default_factory=Counter)  # commits in doubt of this process: was it done?
    bugs: list[str] = field(default_factory=list)

    def longest_gap_seconds(self) -> float:
        """Return the longest time without an acknowledgement."""
        times = sorted(self.acknowledged.values())
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    def first_after(self, instant: float) -> float:
        """Return the seconds from an instant to the next acknowledgement; infinity if there is none."""
        return min((at - instant for at in self.acknowledged.values() if at > instant), default=float("inf"))


class Load:
    """Threads that add one task after another until the end; each repeats a task until it is acknowledged.

    A writer over the server repeats it with its idempotency key, also if the answer says that it is in doubt. A writer
    of this process repeats it only after an error that says that nothing was changed.
    """

    def __init__(self, company: ReplicatedCompany, server: RunningServer, *, over_server: int, in_process: int) -> None:
        self.tally = Tally()
        self._company = company
        self._server = server
        self._stop = threading.Event()
        self._patch = pytest.MonkeyPatch()
        targets = [self._send] * over_server + [self._perform] * in_process
        self._threads = [
            threading.Thread(target=self._run, args=(target, f"writer {number}"), daemon=True)
            for number, target in enumerate(targets)
        ]

    def __enter__(self) -> Self:
        self._patch.setattr(commit, "_is_committed", self._decide)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(END_SECONDS)
            if thread.is_alive():
                self.tally.bugs.append(f"{thread.name} does not end")
        self._patch.undo()

    def _decide(self, *arguments: Any) -> bool:
        is_committed = is_committed_really(*arguments)
        self.tally.decided[is_committed] += 1
        return is_committed

    def wait_for(self, count: int) -> None:
        """Wait until so many more tasks are acknowledged."""
        wanted, deadline = len(self.tally.acknowledged) + count, time.monotonic() + END_SECONDS
        while len(self.tally.acknowledged) < wanted:
            assert time.monotonic() < deadline, self.tally
            time.sleep(0.005)

    def _run(self, target: Callable[[str], None], name: str) -> None:
        try:
            target(name)
        except Exception as error:
            self.tally.bugs.append(f"{name}: {type(error).__name__}: {error}")

    def _send(self, name: str) -> None:
        token, number = self._company.tokens["ada"], 0
        while not self._stop.is_set():
            number += 1
            title = f"{name} task {number}"
            while not self._is_sent(title, token):
                time.sleep(PAUSE_SECONDS)

    def _is_sent(self, title: str, token: str) -> bool:
        try:
            answer = self._server.post("tasks/add_task", {"title": title}, token, Idempotency_Key=title)
        except (OSError, http.client.HTTPException) as error:
            self.tally.errors[type(error).__name__] += 1
            return False
        if answer.status == 200:
            self.tally.acknowledged[title] = time.monotonic()
            return True
        code = answer.document["code"]
        self.tally.errors[f"server: {code}"] += 1
        if answer.status != 503:
            raise AssertionError(answer)
        return False

    def _perform(self, name: str) -> None:
        warnings: list[str] = []
        backend, token, number = self._company.backend(warnings), self._company.tokens["ada"], 0
        while not self._stop.is_set():
            number += 1
            title = f"{name} task {number}"
            while True:
                try:
                    backend.perform(AddTask(title=title), token)
                except PopugError as error:
                    self.tally.errors[error.code] += 1
                    if error.exit_status != 8:
                        raise
                    if error.code == IN_DOUBT:
                        self.tally.in_doubt.append(title)
                        break
                    time.sleep(PAUSE_SECONDS)
                else:
                    self.tally.acknowledged[title] = time.monotonic()
                    break
        backend.close()
