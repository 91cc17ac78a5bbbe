"""Three brokers for several test processes: the first to ask starts them, and they end with the last of them.

It works as ``tests/support/postgres/shared.py`` does: each process holds a shared lock on a file until it ends, even by
a kill, and a supervisor process removes the brokers when no process holds the lock. The supervisor also starts
each broker again that has ended, unless the file ``down-NUMBER`` says that a test wants it to be down.

python -m tests.cluster.shared_brokers FOLDER     the supervisor
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from tests.cluster.brokers import BROKERS, START_SECONDS, Brokers, is_process_alive, registered

ROOT = Path(__file__).parents[2]
WATCH_SECONDS = 0.1
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)
NUMBERS = range(1, BROKERS + 1)
_held: dict[Path, IO[str]] = {}  # a file that is closed loses its lock


class RunningBrokers:
    """The brokers that a supervisor runs, known by the files in its folder. Brokers have the numbers 1 to 3."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        known = self._known()
        self.address: str = known["brokers"]
        self.sasl_address: str = known["sasl_brokers"]
        self.tls_address: str = known["tls_brokers"]
        self.certificate: str = known["certificate"]
        self.password: str = known["password"]

    def address_of(self, number: int) -> str:
        """Return the address of one broker."""
        return self.address.split(",")[number - 1]

    def pid(self, number: int) -> int:
        """Return the id of a broker's latest process."""
        return int(self._known()["pids"][number - 1])

    def kill(self, number: int) -> None:
        """End a broker as a crash of its machine does (SIGKILL); it stays down until ``start``."""
        self._end(number, signal.SIGKILL)

    def stop(self, number: int) -> None:
        """Shut a broker down, which first hands its partitions over (SIGTERM); it stays down until ``start``."""
        self._end(number, signal.SIGTERM)

    def freeze(self, number: int) -> None:
        """Stop a broker's process, whose connections stay open (SIGSTOP), until ``resume``."""
        os.kill(self.pid(number), signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """Let a frozen process go on; one that has ended stays so."""
        with suppress(ProcessLookupError):
            os.kill(self.pid(number), signal.SIGCONT)

    def start(self, number: int) -> None:
        """Let a broker that is down run again, and wait until its process is there; see ``wait_until_registered``."""
        self._down(number).unlink(missing_ok=True)
        _wait(lambda: is_process_alive(self.pid(number)), f"broker {number} does not start again")

    def wait_until_registered(self) -> None:
        """Wait until all brokers answer, and each knows all."""
        addresses = self.address.split(",")
        _wait(lambda: all(registered(address) == BROKERS for address in addresses), "not all brokers are registered")

    def wait_in_sync(self, *topics: str) -> None:
        """Wait until all replicas of topics are in sync; without a name, those of all topics."""
        _wait(lambda: self._are_in_sync(topics), f"the replicas of {topics or 'all topics'} do not come into sync")

    def restore(self) -> None:
        """Start and resume all brokers, and wait until all take part."""
        for number in NUMBERS:
            self.resume(number)
        for number in NUMBERS:
            self.start(number)
        self.wait_until_registered()
        self.wait_in_sync()

    def _are_in_sync(self, topics: tuple[str, ...]) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        with suppress(KafkaException):
            found = AdminClient({"bootstrap.servers": self.address, "log_level": 0}).list_topics(timeout=2).topics
            partitions = [part for topic in topics or found for part in found[topic].partitions.values()]
            return all(len(part.isrs) == len(part.replicas) and part.leader >= 0 for part in partitions)
        return False

    def _end(self, number: int, signal_number: int) -> None:
        pid = self.pid(number)
        self._down(number).touch()
        with suppress(ProcessLookupError):
            os.kill(pid, signal_number)
            os.kill(pid, signal.SIGCONT)
        _wait(lambda: not is_process_alive(pid), f"broker {number} does not end")

    def _down(self, number: int) -> Path:
        return self.folder / f"down-{number}"

    def _known(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(_address(self.folder).read_text())
        return document


def shared_brokers(folder: Path) -> RunningBrokers:
    """Return the brokers of a folder, which run until the last process that called this has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder not in _held:
            _held[folder] = (folder / "users.lock").open("a")
            fcntl.flock(_held[folder], fcntl.LOCK_SH)  # waits while the brokers of earlier processes are removed
        if not _address(folder).exists():
            _start_supervisor(folder)
    return RunningBrokers(folder)


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the turn of a test: one that ends brokers waits until it is alone, and the others wait for it."""
    with (folder / "turns.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def supervise(folder: Path, started: Callable[[dict[str, Any]], None], is_over: Callable[[], bool]) -> None:
    """Run brokers until ``is_over``; report to ``started``, and write their addresses and processes into ``folder``."""
    with Brokers() as brokers:
        try:
            _write_address(folder, brokers)
            started(json.loads(_address(folder).read_text()))
            while not is_over():
                for broker in brokers.brokers:
                    if not broker.is_running and not (folder / f"down-{broker.number}").exists():
                        broker.start()
                        _write_address(folder, brokers)
                time.sleep(WATCH_SECONDS)
        finally:
            _address(folder).unlink(missing_ok=True)


def end_by_signal(*, also_of_terminal: bool = False) -> None:
    """Let SIGTERM end this process in an orderly way, and those of a terminal as well, or ignore these."""
    for number in TERMINAL_SIGNALS:
        signal.signal(number, _exit if also_of_terminal else signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)


def _exit(*_: object) -> NoReturn:
    for number in (*TERMINAL_SIGNALS, signal.SIGTERM):  # a second Ctrl-C must not cut the clean-up short
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


def _write_address(folder: Path, brokers: Brokers) -> None:
    document = {
        "brokers": brokers.address(),
        "sasl_brokers": brokers.address("sasl"),
        "tls_brokers": brokers.address("tls"),
        "certificate": str(brokers.certificate),
        "password": brokers.password,
        "pids": [broker.process.pid if broker.process else 0 for broker in brokers.brokers],
        "folder": str(folder),
    }
    part = folder / "address.part"
    part.touch(mode=0o600)
    part.write_text(json.dumps(document))
    part.replace(_address(folder))


def _address(folder: Path) -> Path:
    return folder / "address.json"


def _wait(condition: Callable[[], bool], problem: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, problem
        time.sleep(WATCH_SECONDS)


def _start_supervisor(folder: Path) -> None:
    log = folder / "supervisor.log"
    with log.open("w") as errors:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(folder)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C of a terminal does not reach it
        )
    assert supervisor.stdout is not None
    with supervisor.stdout as said:
        started = said.readline()
    if not started:
        raise AssertionError(f"the Kafka brokers of the tests did not start:\n{log.read_text()}")
    supervisor.returncode = 0  # no process waits for it: it ends after this process


def _run_for_users(folder: Path) -> None:
    """Run brokers until no process holds the shared lock."""
    end_by_signal()
    with (folder / "users.lock").open("a") as users:

        def is_unused() -> bool:
            with suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            return False

        supervise(folder, lambda _: _say("started"), is_unused)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _run_for_users(Path(sys.argv[1]))
