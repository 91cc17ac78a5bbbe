"""A close between services that stops half-way says what is done, and the next one finishes it."""

import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from popug_cli.app import service_reads
from popug_cli.app.workflows import close_between_services
from popug_cli.kernel.errors import PopugError, Unavailable
from popug_cli.kernel.positions import KnownPositions, Position
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay, CloseReport
from popug_cli.messages.tasks import AddTask
from tests.integration.cluster.linked_company import LinkedCompany

SHORT_SECONDS = 0.3
MONDAY = date(2026, 3, 2)


@pytest.fixture
def linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LinkedCompany]:
    monkeypatch.setattr(close_between_services, "MAX_WAIT_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(service_reads, "INSIST_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(service_reads, "WAIT_SECONDS", SHORT_SECONDS)
    made = LinkedCompany(tmp_path)
    made.act("boss", AddTask(title="Feed the cage"))
    made.settle()
    yield made
    made.close()


def refusal(linked: LinkedCompany, message: Message[CloseReport]) -> PopugError:
    with pytest.raises(Unavailable) as refused:
        linked.act("boss", message)
    assert (refused.value.code, refused.value.exit_status) == ("behind", 8)
    return refused.value


def test_end_that_does_not_arrive_is_not_called_nothing(linked: LinkedCompany) -> None:
    error = refusal(linked, CloseDay(day=MONDAY))
    assert error.details["ended"] == "2026-03-02"
    assert "2026-03-02 has ended and is not closed yet" in error.message
    assert "Nothing was" not in error.message + error.hint


def test_close_waits_for_tasks_only_once(linked: LinkedCompany, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client has the position of the end by then; it is not waited for again."""
    monkeypatch.setattr(close_between_services, "MAX_WAIT_SECONDS", 2.0)
    monkeypatch.setattr(service_reads, "INSIST_SECONDS", 2.0)
    began = time.monotonic()
    refusal(linked, CloseDay(day=MONDAY))
    assert 2.0 <= time.monotonic() - began < 3.9


def test_old_day_that_has_ended_moves_nothing_to_the_past(linked: LinkedCompany) -> None:
    linked.company.clock.advance(days=4)
    assert "is done from now on counts for 2026-03-06" in refusal(linked, CloseDay(day=MONDAY)).message
    assert linked.act("boss", AddTask(title="Clean it")).counts_for is None


def test_later_end_decides_what_new_work_counts_for(linked: LinkedCompany) -> None:
    linked.company.clock.advance(days=1)
    refusal(linked, CloseDay(day=MONDAY + timedelta(days=1)))
    linked.services["billing"].reads.positions = KnownPositions()  # another client
    assert "is done from now on counts for 2026-03-04" in refusal(linked, CloseDay(day=MONDAY)).message
    assert linked.act("boss", AddTask(title="Clean it")).counts_for == date(2026, 3, 4)


def test_closed_day_is_named_if_its_mail_must_wait(linked: LinkedCompany) -> None:
    refusal(linked, CloseDay(day=MONDAY))
    linked.copy("tasks")
    error = refusal(linked, CloseDay(day=MONDAY))
    assert (error.details["service"], error.details["closed"]) == ("mail", "2026-03-02")
    assert "2026-03-02 is closed" in error.message
    assert "Nothing was" not in error.message + error.hint
    assert "ended" not in error.details
    linked.settle()
    (day,) = linked.act("boss", CloseDay(day=MONDAY)).days
    assert day.already_closed


def test_close_refused_at_its_start_names_no_day(linked: LinkedCompany) -> None:
    linked.client.keep({"tasks": Position(10**9, linked.services["tasks"].runtime.log_id)})
    assert refusal(linked, CloseDay(day=MONDAY)).details == {"service": "billing", "lacking": ["tasks"]}
