"""The rounds: each kills the primary in another way, then looks for what was acknowledged."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from popug_cli.messages.company import CheckHealth
from tests.simulation.failover.load import Load, Tally
from tests.support.postgres.replicated import ReplicatedCompany, ServerPair
from tests.support.running_server import eventually

MAX_SECONDS_TO_WRITE = 2.0
WAITING_COMMITS = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
SELECT_TITLES = "SELECT title FROM tasks_tasks"


@dataclass(frozen=True)
class Outcome:
    """The result of a round. ``faults`` is empty if every promise was kept."""

    kind: str
    tally: Tally
    tasks: int
    seconds_to_write: float
    faults: list[str]


def run(kind: str, seed: int, folder: Path | None = None, max_seconds: float = MAX_SECONDS_TO_WRITE) -> Outcome:
    """Run one round on a new company; a fault is also that the next write takes longer than ``max_seconds``."""
    chance = random.Random(f"{kind} {seed}")
    with TemporaryDirectory(dir=folder) as work, ServerPair() as servers:
        company = ReplicatedCompany(Path(work), servers)
        company.be_synchronous()
        with company.serve() as server:
            with Load(company, server, over_server=3, in_process=3) as load:
                load.wait_for(30 + chance.randrange(30))
                promoted_at = KINDS[kind](company, load, chance)
                load.wait_for(20)
            return _outcome(kind, company, load.tally, promoted_at, max_seconds)


def _promote(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """Kill the primary during a commit, and promote the standby, which has the commit, after up to half a second."""
    with _stopped_standby(company):
        company.primary.kill()
    time.sleep(chance.random() / 2)
    company.promote()
    return time.monotonic()


def _behind(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """Kill the primary during a commit, and promote the standby, which lacks it."""
    _kill_standby(company)
    company.primary.kill()
    time.sleep(chance.random() / 2)
    company.standby.start()
    company.promote()
    return time.monotonic()


def _restart(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """Kill the primary during a commit and start it again; the standby connects to it."""
    with _stopped_standby(company):
        company.primary.kill()
    time.sleep(chance.random() / 2)
    company.primary.start()
    return time.monotonic()


def _alone(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """Kill the standby, kill the primary during a commit, start the primary alone, then promote the standby.

    What the primary had committed alone is lost with it, so it must not have been acknowledged.
    """
    _kill_standby(company)
    company.primary.kill()
    company.primary.start()
    time.sleep(1 + chance.random())
    company.primary.kill()
    company.standby.start()
    company.promote()
    return time.monotonic()


def _cancel(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """Kill the standby, cancel the commits that wait for it, then kill the primary and promote the standby."""
    _kill_standby(company)
    for _ in range(3):
        company.primary.execute(f"SELECT pg_cancel_backend(pid) {WAITING_COMMITS}")
        time.sleep(0.1 + chance.random() / 5)
    company.primary.kill()
    company.standby.start()
    company.promote()
    return time.monotonic()


def _terminate(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """End sessions of the company again and again: before, in and after their commits."""
    for _ in range(10):
        company.primary.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'popug'")
        time.sleep(chance.random() / 10)
        with _stopped_standby(company):
            end = chance.choice(("pg_terminate_backend", "pg_cancel_backend"))
            company.primary.execute(f"SELECT {end}(pid) {WAITING_COMMITS}")
    return time.monotonic()


@contextmanager
def _stopped_standby(company: ReplicatedCompany) -> Iterator[None]:
    """Stop the standby until a commit waits for it, and let it go on after the block."""
    company.standby.signal_all(signal.SIGSTOP)
    try:
        _wait_for_commit(company)
        yield
    finally:
        company.standby.signal_all(signal.SIGCONT)


def _kill_standby(company: ReplicatedCompany) -> None:
    company.standby.kill()
    _wait_for_commit(company)


def _wait_for_commit(company: ReplicatedCompany) -> None:
    eventually(lambda: company.primary.execute(f"SELECT 1 {WAITING_COMMITS}"))


Kill = Callable[[ReplicatedCompany, Load, random.Random], float]
KINDS: dict[str, Kill] = {
    "promote": _promote,
    "behind": _behind,
    "restart": _restart,
    "alone": _alone,
    "cancel": _cancel,
    "terminate": _terminate,
}


def _outcome(kind: str, company: ReplicatedCompany, tally: Tally, promoted_at: float, max_seconds: float) -> Outcome:
    backend = company.backend()
    with backend.runtime.database.transaction(writes=False) as connection:
        titles = Counter(connection.column(SELECT_TITLES))
    health = backend.perform(CheckHealth())
    backend.close()
    seconds = tally.first_after(promoted_at)
    lost = sorted(set(tally.acknowledged) - set(titles))
    faults = [
        *(f"lost: {title}" for title in lost),
        *(f"{count} times: {title}" for title, count in titles.items() if count > 1),
        *(f"in doubt: {title}" for title in tally.in_doubt),
        *tally.bugs,
        *(f"doctor: {check}" for check in health.checks if not check.ok),
    ]
    if seconds > max_seconds:
        faults.append(f"the next write came {seconds:.1f} seconds after the promotion")
    return Outcome(kind, tally, titles.total(), seconds, faults)
