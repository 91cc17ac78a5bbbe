"""Threads that share a company: commands side by side, one catching up for many, readers that wait for nobody."""

import threading
from collections.abc import Callable

import pytest

from popug_cli.app.turns import Crew, NobodyElse, Reader
from popug_cli.bus.consumers import CatchUp
from popug_cli.kernel.errors import Unavailable
from tests.integration.served import PATIENCE_SECONDS


def in_threads(count: int, work: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def ended(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def wrote(crew: Crew) -> None:
    with crew.command(), crew.transaction():
        pass


def test_one_catches_up_for_all_that_were_inside() -> None:
    crew, gate, inside = Crew(), threading.Event(), threading.Barrier(9)
    reports: list[CatchUp] = []
    runs: list[int] = []

    def work() -> CatchUp:
        runs.append(1)
        return CatchUp(failures={"billing": 1})

    def perform() -> None:
        with crew.command():
            with crew.transaction():
                pass
            inside.wait(PATIENCE_SECONDS)
            gate.wait(PATIENCE_SECONDS)
        reports.append(crew.catch_up(work, thoroughly=False))

    threads = in_threads(8, perform)
    inside.wait(PATIENCE_SECONDS)
    gate.set()
    ended(threads)
    assert len(runs) == 1
    assert [report.failures for report in reports] == [{"billing": 1}] * 8


def test_nobody_goes_in_while_somebody_catches_up() -> None:
    crew, go_on, working = Crew(), threading.Event(), threading.Event()
    wrote(crew)

    def work() -> CatchUp:
        working.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return CatchUp()

    catching = in_threads(1, lambda: crew.catch_up(work, thoroughly=False))
    assert working.wait(PATIENCE_SECONDS)
    late = in_threads(1, lambda: wrote(crew))
    late[0].join(0.05)
    assert late[0].is_alive()
    assert crew.is_busy
    go_on.set()
    ended(catching + late)
    assert not crew.is_busy


def test_who_is_thorough_works_in_any_case() -> None:
    crew, runs = Crew(), list[int]()
    wrote(crew)

    def work() -> CatchUp:
        runs.append(1)
        return CatchUp()

    for thoroughly in (False, True, False):
        crew.catch_up(work, thoroughly=thoroughly)
    assert len(runs) == 3


def test_what_fails_is_tried_by_the_next() -> None:
    crew = Crew()
    wrote(crew)

    def fail() -> CatchUp:
        raise Unavailable("database_busy", "busy")

    with pytest.raises(Unavailable):
        crew.catch_up(fail, thoroughly=False)
    assert not crew.is_busy
    assert crew.catch_up(lambda: CatchUp(complete=False), thoroughly=False).complete is False


def test_a_reader_leaves_the_consumers_to_a_crew_at_work() -> None:
    crew, runs = Crew(), list[int]()
    reader = Reader(crew, lambda: 7)

    def work() -> CatchUp:
        runs.append(1)
        return CatchUp()

    with crew.command():
        reader.catch_up(work, thoroughly=False)
        assert runs == []
    reader.catch_up(work, thoroughly=False)
    reader.catch_up(work, thoroughly=False)
    assert runs == [1]
    assert reader.is_done(7)
    assert not reader.is_done(8)
    reader.catch_up(work, thoroughly=True)
    assert runs == [1, 1]


def test_what_a_fault_left_is_no_end() -> None:
    crew, runs = Crew(), list[int]()
    reader = Reader(crew, lambda: 7)

    def work() -> CatchUp:
        runs.append(1)
        return CatchUp(complete=False)

    for _ in range(2):
        reader.catch_up(work, thoroughly=False)
    assert runs == [1, 1]


def test_alone_there_is_nobody_to_wait_for() -> None:
    alone = NobodyElse()
    with alone.command():
        assert alone.catch_up(CatchUp, thoroughly=False).complete
    assert not alone.is_done(1)
