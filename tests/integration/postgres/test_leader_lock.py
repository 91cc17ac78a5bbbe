"""The leader's lock: one process holds it, and another one takes over when that is killed or stopped."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from popug_cli.storage.postgres.driver import PostgresDatabase
from popug_cli.storage.postgres.leader_lock import PostgresLeaderLock
from tests.support.postgres.server import PostgresServer

TAKEOVER_SECONDS = 10.0  # 0.3 s on an idle machine
STOPPED_TAKEOVER_SECONDS = 30.0  # the session ends after 10 s
CANDIDATE = """
import sys, time
from popug_cli.kernel.errors import PopugError
from popug_cli.storage.postgres.driver import PostgresDatabase

lock = PostgresDatabase(sys.argv[1]).leader_lock()
while True:
    try:
        while not lock.try_acquire():
            time.sleep(0.2)
        print("leader", flush=True)
        while True:
            if lock.hold(0.5):
                print("notified", flush=True)
    except PopugError as error:
        print("lost", error.code, flush=True)
"""


class Candidate:
    """A process that becomes leader when it can."""

    def __init__(self, url: str) -> None:
        line = [sys.executable, "-c", CANDIDATE, url]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.output: IO[str] = self.process.stdout

    def says(self) -> str:
        return self.output.readline().strip()


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def start(url: str) -> Iterator[Callable[[], Candidate]]:
    candidates: list[Candidate] = []

    def start() -> Candidate:
        candidates.append(Candidate(url))
        return candidates[-1]

    yield start
    for candidate in candidates:
        candidate.process.kill()
        candidate.process.communicate()


def lock_at(url: str) -> PostgresLeaderLock:
    return PostgresDatabase(url).leader_lock()


def test_second_process_does_not_get_the_lock(url: str) -> None:
    first, second = lock_at(url), lock_at(url)
    deadline = time.monotonic() + TAKEOVER_SECONDS
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    while not second.try_acquire():  # the server notices the closed connection a moment later
        assert time.monotonic() < deadline
    second.release()


def test_process_takes_over_from_a_killed_leader(start: Callable[[], Candidate]) -> None:
    leader = start()
    assert leader.says() == "leader"
    follower = start()
    began = time.monotonic()
    leader.process.kill()
    assert follower.says() == "leader"
    assert time.monotonic() - began < TAKEOVER_SECONDS


def test_stopped_leader_is_replaced_and_finds_its_lock_lost(start: Callable[[], Candidate]) -> None:
    leader = start()
    assert leader.says() == "leader"
    follower = start()
    began = time.monotonic()
    leader.process.send_signal(signal.SIGSTOP)
    assert follower.says() == "leader"
    assert time.monotonic() - began < STOPPED_TAKEOVER_SECONDS
    leader.process.send_signal(signal.SIGCONT)
    assert leader.says() == "lost database_unavailable"


def test_leader_is_notified_by_another_process(start: Callable[[], Candidate], url: str) -> None:
    leader = start()
    assert leader.says() == "leader"
    lock = lock_at(url)
    assert not lock.try_acquire()
    lock.notify()
    assert leader.says() == "notified"
    lock.release()
