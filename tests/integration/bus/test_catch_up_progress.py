"""The progress reported while consumers catch up over a long part of the log."""

from dataclasses import replace
from pathlib import Path

import pytest

from popug_cli.bus import catch_up, consumers
from tests.support.bus_fixture import NO_SPACE, BusFixture, RecordingConsumer


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


def record_progress(toy: BusFixture, monkeypatch: pytest.MonkeyPatch, positions: int) -> list[tuple[str, int, int]]:
    """Record the progress of catching up from now on, with this minimum of positions."""
    reported: list[tuple[str, int, int]] = []
    monkeypatch.setattr(catch_up, "MIN_REPORTED_POSITIONS", positions)
    toy.runtime = replace(toy.runtime, progress=lambda label, done, total: reported.append((label, done, total)))
    return reported


def test_long_catch_up_reports_progress(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.publish("a", "b")
    toy.catch_up()
    reported = record_progress(toy, monkeypatch, 6)
    monkeypatch.setattr(consumers, "BATCH_EVENTS", 2)
    toy.publish("c", "d", "e", "f")
    catch_up.catch_up(toy.runtime, [toy.consumer, RecordingConsumer("ear").consumer])
    assert reported == [("Catching up", *step) for step in [(0, 10), (4, 10), (8, 10), (1, 1)]]


def test_progress_counts_from_the_first_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "MIN_REPORTED_POSITIONS", 6)
    reported: list[tuple[str, int, int]] = []
    for steps in ((0, 4), (5, 6)):
        progress = catch_up.CatchUpProgress(lambda label, done, total: reported.append((label, done, total)))
        for reached in steps:
            progress.report(reached, 10)
    assert reported == [("Catching up", 0, 10), ("Catching up", 4, 10)]


def test_short_catch_up_reports_no_progress(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = record_progress(toy, monkeypatch, 3)
    toy.publish("a", "b")
    toy.catch_up()
    assert reported == []


def test_stopped_catch_up_reports_its_end(toy: BusFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = record_progress(toy, monkeypatch, 1)
    toy.publish("ann")
    catch_up.catch_up(toy.runtime, [RecordingConsumer("stuck", error=NO_SPACE).consumer])
    assert reported == [("Catching up", 0, 1), ("Catching up", 0, 1), ("Catching up", 1, 1)]
