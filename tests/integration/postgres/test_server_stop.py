"""``popug serve`` stops soon although its database is down, and refuses what waits for the database."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.postgres.replicated import ReplicatedCompany

OUTAGE_SECONDS = 2.5  # the consumers' thread then waits for the database
MAX_STOP_SECONDS = 5


@pytest.fixture
def alone(replicated: ReplicatedCompany) -> ReplicatedCompany:
    """A company whose URL names the primary only."""
    replicated.configure(replicated.primary.url(replicated.database))
    return replicated


def test_server_stops_soon_while_its_database_is_down(alone: ReplicatedCompany) -> None:
    with alone.serve() as server, ThreadPoolExecutor(1) as thread:
        alone.primary.kill()
        time.sleep(OUTAGE_SECONDS)
        answer = thread.submit(server.post, "tasks/add_task", {"title": "Feed the cage"}, alone.tokens["ada"])
        time.sleep(OUTAGE_SECONDS)
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < MAX_STOP_SECONDS
        assert (answer.result().status, answer.result().document["code"]) == (503, "database_unavailable")


def test_stopping_server_stores_answers_if_it_can(alone: ReplicatedCompany) -> None:
    with alone.serve() as server:
        for _ in range(2):
            added = server.post("tasks/add_task", {"title": "Once"}, alone.tokens["ada"], Idempotency_Key="once")
            assert (added.status, added.document["number"]) == (200, 1)
        assert server.end() == 0
    with alone.serve() as server:
        again = server.post("tasks/add_task", {"title": "Once"}, alone.tokens["ada"], Idempotency_Key="once")
        assert again.document == added.document


@pytest.mark.parametrize("has_buffered_answer", [False, True])
def test_server_stops_while_its_database_does_not_answer(alone: ReplicatedCompany, has_buffered_answer: bool) -> None:
    with alone.serve() as server:
        if has_buffered_answer:
            server.post("tasks/add_task", {"title": "Once"}, alone.tokens["ada"], Idempotency_Key="once")
        alone.primary.signal_all(signal.SIGSTOP)
        try:
            assert server.end() == 0
        finally:
            alone.primary.signal_all(signal.SIGCONT)
