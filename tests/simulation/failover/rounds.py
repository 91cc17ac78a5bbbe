"""The rounds: each kills the primary in another way, then looks for what was acknowledged."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from popug_cli.messages.company import CheckHealth
from tests.simulation.failover.load import Load, Tally
from tests.support.postgres.replicated import ReplicatedCompany

MAX_SECONDS_TO_WRITE = 2.0
SELECT_TITLES = "SELECT title FROM tasks_tasks"


@dataclass(frozen=True)
class Outcome:
    """What a round has shown. ``faults`` is empty if all that was promised holds."""

    kind: str
    tally: Tally
    tasks: int
    seconds_to_write: float
    faults: list[str]


def run(kind: str, seed: int, folder: Path | None = None) -> Outcome:
    """Run one round on a new company."""
    chance = random.Random(f"{kind} {seed}")
    with TemporaryDirectory(dir=folder) as work, ReplicatedCompany(Path(work)) as company:
        company.be_synchronous()
        with company.serve() as server:
            with Load(company, server, over_server=3, in_process=3) as load:
                load.wait_for(30 + chance.randrange(30))
                promoted_at = KINDS[kind](company, load, chance)
                load.wait_for(20)
            return _outcome(kind, company, load.tally, promoted_at)


def _promote(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """Kill the primary, and promote the standby after up to half a second."""
    company.primary.kill()
    time.sleep(chance.random() / 2)
    company.promote()
    return time.monotonic()


def _restart(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """Kill the primary and start it again; the standby connects to it."""
    company.primary.kill()
    time.sleep(chance.random() / 2)
    company.primary.start()
    return time.monotonic()


def _alone(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """Stop the standby, kill the primary amid commits that wait for it, start the primary alone, then promote.

    What the primary had committed alone is lost with it, so it must not have been acknowledged.
    """
    assert company.standby is not None
    company.standby.signal_all(signal.SIGSTOP)
    time.sleep(0.2 + chance.random() / 2)
    company.primary.kill()
    company.primary.start()
    time.sleep(1 + chance.random())
    company.primary.kill()
    company.standby.signal_all(signal.SIGCONT)
    company.promote()
    return time.monotonic()


def _cancel(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """Stop the standby, cancel the commits that wait for it, then kill the primary and promote the standby."""
    assert company.standby is not None
    company.standby.signal_all(signal.SIGSTOP)
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    for _ in range(3):
        time.sleep(0.1 + chance.random() / 5)
        company.primary.execute(cancel)
    company.primary.kill()
    company.standby.signal_all(signal.SIGCONT)
    company.promote()
    return time.monotonic()


def _terminate(company: ReplicatedCompany, load: Load, chance: random.Random) -> float:
    """End all sessions of the company again and again, before, in and after their commits."""
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'popug'"
    for _ in range(20):
        time.sleep(chance.random() / 10)
        company.primary.execute(terminate)
    return time.monotonic()


Kill = Callable[[ReplicatedCompany, Load, random.Random], float]
KINDS: dict[str, Kill] = {
    "promote": _promote,
    "restart": _restart,
    "alone": _alone,
    "cancel": _cancel,
    "terminate": _terminate,
}


def _outcome(kind: str, company: ReplicatedCompany, tally: Tally, promoted_at: float) -> Outcome:
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
    if seconds > MAX_SECONDS_TO_WRITE:
        faults.append(f"the next write came {seconds:.1f} seconds after the promotion")
    return Outcome(kind, tally, titles.total(), seconds, faults)
