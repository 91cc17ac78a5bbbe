"""A one-process company ends and closes a day in one step: its entries have the dates that the old rule gives."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from popug_cli.bus.catch_up import CatchUpResult
from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.billing import CloseDay, CorrectEntry
from popug_cli.messages.identity import ActivateUser, DeactivateUser
from popug_cli.messages.tasks import AddTask, CompleteTask, ShuffleTasks
from tests.support.billing_company import check_books
from tests.support.company import InProcess, SetClock

# Zones with daylight saving time, far from UTC, and one that skipped 2011-12-30 in the days of the test.
COMPANIES = [
    ("Europe/Berlin", datetime(2026, 3, 2, 9, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 10, 9, tzinfo=UTC)),
    ("America/St_Johns", datetime(2026, 10, 25, 2, tzinfo=UTC)),
    ("Pacific/Kiritimati", datetime(2027, 12, 28, 9, tzinfo=UTC)),
]
DAYS = 1000 // len(COMPANIES)
WORKERS = ("kesha", "gosha", "lora")


class OldRule:
    """The rule as it was when a day had no end but its close, applied to the events of a log in their order.

    An entry counts for the local date of its cause or, if that is closed when the entry is posted, for the first open
    day after it. A correction counts for the local date of its own time in the same way.
    """

    def __init__(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self.first_open = date.min
        self.times: dict[str, str] = {}
        self.dates: dict[str, date] = {}
        self.entry_dates: dict[str, date] = {}

    def take(self, event: dict[str, Any]) -> None:
        name, data = event["type"].split(".")[2], event["data"]
        self.times[event["id"]] = event["time"]
        if self.first_open == date.min and name == "user_registered":
            self.first_open = self._date(event["time"])
        if name == "day_closed":
            closed = date.fromisoformat(data["business_date"])
            assert closed == self.first_open, "days are closed one after the other"
            self.first_open = self.calendar.next_day(closed)
        if name == "entry_posted":
            self._take_entry(event, data)

    def _take_entry(self, event: dict[str, Any], data: dict[str, Any]) -> None:
        business_date = date.fromisoformat(data["business_date"])
        self.dates[data["entry_id"]] = business_date
        if data["kind"] == "payout":
            assert business_date == self.first_open
            return
        is_reversal = data.get("corrects") is not None
        caused_at = event["time"] if is_reversal else self.times[event["causationid"]]
        expected = max(self._date(caused_at), self.first_open)
        if is_reversal and self.dates[data["corrects"]] > expected:
            expected = self.dates[data["corrects"]]  # the only difference from the old rule
        assert business_date == expected, event

    def _date(self, instant: str) -> date:
        return self.calendar.date_of(from_rfc3339(instant))


def random_day(company: InProcess, random: Random) -> None:
    """Do a few things at random times of one day, and close it, the day before, or nothing."""
    for _ in range(random.randrange(1, 4)):
        company.clock.advance(hours=random.choice((0, 1, 3)), seconds=random.randrange(3000))
        one_step(company, random)
    if random.random() < 0.7:
        company.act("boss", CloseDay(yesterday=random.random() < 0.6, send_mail=False, confirmed=True))
    if random.random() < 0.3:
        one_step(company, random)
    company.clock.advance(hours=random.choice((-30, 14, 18, 24, 24, 40)), seconds=random.randrange(900))


def one_step(company: InProcess, random: Random) -> None:
    """Do one command; after one in six, the consumers run only with a later command."""
    with pytest.MonkeyPatch.context() as patch:
        if random.random() < 0.17:
            patch.setattr(company.backend, "catch_up", lambda **_: CatchUpResult())
        _perform_one(company, random)


def _perform_one(company: InProcess, random: Random) -> None:
    step = random.randrange(10)
    who = random.choice(WORKERS)
    try:
        if step < 4:
            company.act("boss", AddTask(title="Feed the cage"))
        elif step < 7:
            for task in company.rows(
                "SELECT task.number, person.username FROM tasks_tasks task JOIN tasks_people person"
                " ON person.user_id = task.assignee_id WHERE status = 'open' ORDER BY number DESC LIMIT 1"
            ):
                company.act(task["username"], CompleteTask(number=task["number"]))
        elif step == 7:
            entries = company.rows("SELECT entry_id FROM billing_entries ORDER BY position DESC LIMIT 3")
            for entry in random.sample(entries, k=min(1, len(entries))):
                company.act("boss", CorrectEntry(entry_id=entry["entry_id"], reason="a mistake"))
        elif step == 8:
            company.act("boss", ShuffleTasks())
        else:
            company.act("boss", random.choice((DeactivateUser, ActivateUser))(username=who))
    except PopugError:
        pass  # nothing to complete or to correct, or it is so already


def events_of(company: InProcess) -> Iterator[dict[str, Any]]:
    for row in company.rows("SELECT envelope FROM bus_log ORDER BY sequence"):
        yield msgspec.json.decode(row["envelope"])


@pytest.mark.parametrize(("zone", "start"), COMPANIES, ids=[zone for zone, _ in COMPANIES])
def test_random_days_have_the_dates_of_the_old_rule(tmp_path: Path, zone: str, start: datetime) -> None:
    company = InProcess(tmp_path / "home", zone, SetClock(start))
    for name in WORKERS:
        company.hire(name)
    random = Random(zone)
    for _ in range(DAYS):
        random_day(company, random)
    old = OldRule(company.backend.calendar)
    figures: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    ended = ""
    for event in events_of(company):
        old.take(event)
        name, data = event["type"].split(".")[2], event["data"]
        if name == "entry_posted":
            kind, _, is_reversal = data["kind"].partition("_")
            cents = -data["amount_cents"] if is_reversal else data["amount_cents"]
            figures[data["business_date"]][("fee", "reward", "payout").index(kind)] += cents
            figures[data["business_date"]][3] += kind == "payout"
        if name == "day_ended":
            ended = data["business_date"]
        if name == "day_closed":
            assert ended == data["business_date"], "a day is ended in the step that closes it"
            recorded = [data["fees_cents"], data["rewards_cents"], data["payouts_cents"], data["paid_count"]]
            assert recorded == figures[data["business_date"]]
    closed = len(company.rows("SELECT 1 FROM billing_days"))
    assert closed > DAYS // 2
    assert len(old.dates) > DAYS
    check_books(company.rows)
