"""Threads that share a company: commands run in parallel, one thread catches up for all, queries do not wait."""

import threading
from collections.abc import Callable

import pytest

from popug_cli.app.coordination import SingleThreaded
from popug_cli.app.hosting.thread_coordination import QueryCoordinator, ThreadCoordinator
from popug_cli.bus.catch_up import CatchUpResult
from popug_cli.kernel.errors import Unavailable
from tests.support.running_server import PATIENCE_SECONDS


def in_threads(count: int, work: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def ended(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def wrote(coordinator: ThreadCoordinator) -> None:
    with coordinator.command(), coordinator.write_lock():
        pass


def test_one_thread_catches_up_for_all_concurrent_commands() -> None:
    coordinator, gate, inside = ThreadCoordinator(), threading.Event(), threading.Barrier(9)
    reports: list[CatchUpResult] = []
    runs: list[int] = []

    def work() -> CatchUpResult:
        runs.append(1)
        return CatchUpResult(failures={"billing": 1})

    def perform() -> None:
        with coordinator.command():
            with coordinator.write_lock():
                pass
            inside.wait(PATIENCE_SECONDS)
            gate.wait(PATIENCE_SECONDS)
        reports.append(coordinator.catch_up(work, force=False))

    threads = in_threads(8, perform)
    inside.wait(PATIENCE_SECONDS)
    gate.set()
    ended(threads)
    assert len(runs) == 1
    assert [report.failures for report in reports] == [{"billing": 1}] * 8


def test_command_waits_while_another_thread_catches_up() -> None:
    coordinator, go_on, working = ThreadCoordinator(), threading.Event(), threading.Event()
    wrote(coordinator)

    def work() -> CatchUpResult:
        working.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return CatchUpResult()

    catching = in_threads(1, lambda: coordinator.catch_up(work, force=False))
    assert working.wait(PATIENCE_SECONDS)
    late = in_threads(1, lambda: wrote(coordinator))
    late[0].join(0.05)
    assert late[0].is_alive()
    assert coordinator.is_busy
    go_on.set()
    ended(catching + late)
    assert not coordinator.is_busy


def test_forced_catch_up_always_runs() -> None:
    coordinator, runs = ThreadCoordinator(), list[int]()
    wrote(coordinator)

    def work() -> CatchUpResult:
        runs.append(1)
        return CatchUpResult()

    for force in (False, True, False):
        coordinator.catch_up(work, force=force)
    assert len(runs) == 3


def test_failed_catch_up_is_retried_by_the_next_thread() -> None:
    coordinator = ThreadCoordinator()
    wrote(coordinator)

    def fail() -> CatchUpResult:
        raise Unavailable("database_busy", "busy")

    with pytest.raises(Unavailable):
        coordinator.catch_up(fail, force=False)
    assert not coordinator.is_busy
    assert coordinator.catch_up(lambda: CatchUpResult(complete=False), force=False).complete is False


def test_query_leaves_catch_up_to_running_commands() -> None:
    coordinator, runs = ThreadCoordinator(), list[int]()
    reader = QueryCoordinator(coordinator, lambda: 7)

    def work() -> CatchUpResult:
        runs.append(1)
        return CatchUpResult()

    with coordinator.command():
        reader.catch_up(work, force=False)
        assert runs == []
    reader.catch_up(work, force=False)
    reader.catch_up(work, force=False)
    assert runs == [1]
    assert reader.is_caught_up(7)
    assert not reader.is_caught_up(8)
    reader.catch_up(work, force=True)
    assert runs == [1, 1]


def test_incomplete_catch_up_is_run_again() -> None:
    coordinator, runs = ThreadCoordinator(), list[int]()
    reader = QueryCoordinator(coordinator, lambda: 7)

    def work() -> CatchUpResult:
        runs.append(1)
        return CatchUpResult(complete=False)

    for _ in range(2):
        reader.catch_up(work, force=False)
    assert runs == [1, 1]


def test_single_threaded_coordinator_waits_for_no_thread() -> None:
    alone = SingleThreaded()
    with alone.command():
        assert alone.catch_up(CatchUpResult, force=False).complete
    assert not alone.is_caught_up(1)
