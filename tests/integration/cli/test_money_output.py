"""Amounts on screen: each screen, and the questions that a close asks at a terminal."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from popug_cli.cli.commands.money import accounts
from popug_cli.cli.commands.tasks import task as task_screens
from popug_cli.cli.context import CommandContext, GlobalOptions
from popug_cli.cli.input import dates
from popug_cli.cli.output.printer import Printer
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.home import Home
from popug_cli.kernel.money import format_cents
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.tasks import AddTask, CompleteTask
from tests.integration.app.test_close_day import append
from tests.support.billing_company import migrated
from tests.support.company import InProcess


class Desk:
    """A company, and its commands as a user types them."""

    def __init__(self, root: Path) -> None:
        Home(root).make()
        Home(root).database.write_bytes(migrated())
        self.company = InProcess(root)
        self.company.hire("kesha")

    def context_of(self, name: str, *, as_json: bool = False) -> tuple[CommandContext, io.StringIO]:
        out = io.StringIO()
        backend = SimpleNamespace(
            perform=lambda message, token: self.company.act(name, message),
            calendar=self.company.backend.calendar,
            now=self.company.backend.now,
        )
        chosen = GlobalOptions(token="any", backend=backend, printer=Printer(out, io.StringIO()))
        return CommandContext(chosen, as_json=as_json), out

    def screen(self, name: str, command: Any, *arguments: Any, **options: Any) -> str:
        context, out = self.context_of(name)
        command(context, *arguments, **options)
        return out.getvalue()

    def answer(self, name: str, command: Any, *arguments: Any, **options: Any) -> Any:
        context, out = self.context_of(name, as_json=True)
        command(context, *arguments, **options)
        return json.loads(out.getvalue())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "home")


def work(desk: Desk, *, complete: bool = True) -> tuple[int, int]:
    task = desk.company.act("kesha", AddTask(title="Feed the cage"))
    if complete:
        desk.company.act("kesha", CompleteTask(number=task.number))
    assert task.fee_cents is not None
    assert task.reward_cents is not None
    return task.fee_cents, task.reward_cents


def test_balance_is_a_sentence(desk: Desk) -> None:
    fee, reward = work(desk)
    shown = desk.screen("kesha", accounts.balance)
    assert f"kesha has {format_cents(reward - fee)}." in shown
    assert f"Earned on 2026-03-02: {format_cents(reward)}." in shown
    assert desk.answer("boss", accounts.balance, "kesha", as_of="yesterday")["balance_cents"] == 0
    then = desk.answer("boss", accounts.balance, "kesha", as_of="2026-03-02T09:00:00Z")
    assert then == desk.answer("kesha", accounts.balance)


def test_debt_is_called_in_the_red(desk: Desk) -> None:
    fee, _ = work(desk, complete=False)
    assert f"kesha has -{format_cents(fee)}, which is in the red." in desk.screen("kesha", accounts.balance)


def test_statement_shows_each_entry_with_the_balance_after_it(desk: Desk) -> None:
    fee, reward = work(desk)
    shown = desk.screen("kesha", accounts.statement)
    assert "Brought forward: $0." in shown
    assert f"Balance: {format_cents(reward - fee)}." in shown
    (line,) = [line for line in shown.splitlines() if "reward" in line]
    assert line.split() == [
        "2026-03-02", "10:00", "reward", "#1", "Feed", "the", "cage", format_cents(reward), format_cents(reward - fee),
    ]  # fmt: skip
    assert "recorded" not in shown
    assert "There are no entries." in desk.screen("kesha", accounts.statement, first="2040-01-01")


def test_statement_shows_both_dates_and_times_if_they_differ(desk: Desk) -> None:
    desk.company.act("boss", CloseDay())
    draw = {"seed": "0", "algorithm": "sha256-v1", "candidates_as_of": 0}
    who = desk.company.people["kesha"].user_id
    late = {"task_id": "t", "assignee_id": who, "reason": "created", "draw": draw}
    append(desk.company, "late", "task_assigned", "t", json.dumps(late))
    desk.company.clock.advance(hours=3)
    shown = desk.screen("kesha", accounts.statement, last="2026-03-03")
    (line,) = [line for line in shown.splitlines() if "fee" in line]
    assert line.split()[:6] == ["2026-03-03", "2026-03-02", "10:00", "2026-03-02", "13:00", "fee"]
    early = desk.answer("kesha", accounts.statement, last="2026-03-03", as_of="2026-03-02T10:00:00Z")
    assert early["entries"] == []


def test_task_shows_recording_time_of_entries_if_it_differs(desk: Desk) -> None:
    work(desk)
    assert "Recorded" not in desk.screen("kesha", task_screens.show, 1)
    draw = {"seed": "0", "algorithm": "sha256-v1", "candidates_as_of": 0}
    task_id = desk.company.rows("SELECT task_id FROM tasks_tasks")[0]["task_id"]
    late = {"task_id": task_id, "assignee_id": desk.company.people["kesha"].user_id, "reason": "created", "draw": draw}
    append(desk.company, "late", "task_assigned", task_id, json.dumps(late))
    desk.company.clock.advance(hours=3)
    shown = desk.screen("kesha", task_screens.show, 1)
    (line,) = [line for line in shown.splitlines() if "fee" in line and "13:00" in line]
    assert line.split()[:6] == ["2026-03-02", "10:00", "2026-03-02", "13:00", "2026-03-02", "fee"]


def test_income_is_a_table_with_its_sum(desk: Desk) -> None:
    fee, reward = work(desk)
    shown = desk.screen("boss", accounts.income)
    assert f"Management income: {format_cents(fee - reward)}." in shown
    assert "open" in shown
    desk.company.act("boss", CloseDay())
    assert "closed" in desk.screen("boss", accounts.income, as_of="today")
    assert "no day in this range" in desk.screen("boss", accounts.income, last="2020-01-01")


def test_close_shows_payouts_and_mails(desk: Desk) -> None:
    fee, reward = work(desk)
    sum_paid = format_cents(reward - fee)
    rehearsed = desk.screen("boss", accounts.close_day, dry_run=True)
    assert "2026-03-02 would be closed." in rehearsed
    assert "1 mail would be queued" in rehearsed
    shown = desk.screen("boss", accounts.close_day)
    assert "2026-03-02 is closed." in shown
    assert f"1 payout, {sum_paid} in all." in shown
    assert "1 mail sent, 0 still to be sent." in shown
    assert "was already closed" in desk.screen("boss", accounts.close_day, day="2026-03-02", no_mail=True)
    assert "There is nothing to close." in desk.screen("boss", accounts.close_day, day="yesterday")


def test_long_list_of_payouts_is_cut_for_people(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MAX_SHOWN_PAYOUTS", 1)
    desk.company.hire("gosha")
    for _ in range(8):
        task = desk.company.act("kesha", AddTask(title="Feed the cage"))
        desk.company.act(task.assignee, CompleteTask(number=task.number))
    shown = desk.screen("boss", accounts.close_day)
    assert "and 1 more; 2 payouts" in shown
    assert ("gosha" in shown, "kesha" in shown) == (True, False)


def test_close_shows_events_not_counted_in(desk: Desk) -> None:
    append(desk.company, "bad", "task_assigned", "t", "{}")
    shown = desk.screen("boss", accounts.close_day)
    assert "There are no payouts." in shown
    assert "Not included" in shown
    assert "popug events dead" in shown


class Terminal(io.StringIO):
    """Standard input of a terminal with a user."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "done"), [("y\n", True), ("\n", False)])
def test_closing_many_days_asks_at_a_terminal(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, typed: str, done: bool
) -> None:
    desk.company.clock.advance(days=40)
    with pytest.raises(InvalidInput) as caught:
        desk.screen("boss", accounts.close_day)
    assert caught.value.code == "needs_yes"
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    monkeypatch.setattr("sys.stderr", Terminal())
    if done:
        assert len(desk.answer("boss", accounts.close_day)["days"]) == 41
        return
    with pytest.raises(InvalidInput):
        desk.screen("boss", accounts.close_day)
    assert desk.company.rows("SELECT * FROM billing_days") == []


def test_other_refusals_of_a_close_ask_nothing(desk: Desk) -> None:
    with pytest.raises(InvalidInput) as caught:
        desk.screen("boss", accounts.close_day, day="2026-03-03")
    assert caught.value.code == "future_date"


def test_omitted_date_option_is_none(desk: Desk) -> None:
    context, _ = desk.context_of("kesha")
    assert dates.day_option(context, None) is None
    assert str(dates.day_option(context, "today")) == "2026-03-02"


def test_balance_is_shown_day_by_day_with_a_chart(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    fee, reward = work(desk)
    desk.company.clock.advance(days=1)
    then = desk.answer("kesha", accounts.balance, history=True, days=3)
    assert [(day["business_date"], day["balance_cents"], day["change_cents"]) for day in then["history"]] == [
        ("2026-03-01", 0, 0),
        ("2026-03-02", reward - fee, reward - fee),
        ("2026-03-03", reward - fee, 0),
    ]
    shown = desk.screen("kesha", accounts.balance, history=True, days=3)
    assert "█" in shown or reward <= fee
    assert len([line for line in shown.splitlines() if line.strip().startswith("2026-03-0")]) == 3


def test_balance_history_ends_with_current_balance(desk: Desk) -> None:
    desk.company.act("boss", CloseDay(send_mail=False))
    work(desk, complete=False)
    now = desk.answer("kesha", accounts.balance, history=True, days=2)
    assert [day["business_date"] for day in now["history"]] == ["2026-03-02", "2026-03-03"]
    assert now["history"][-1]["balance_cents"] == now["balance_cents"] < 0
    then = desk.answer("kesha", accounts.balance, history=True, days=2, as_of="2026-03-02")
    assert [day["business_date"] for day in then["history"]] == ["2026-03-01", "2026-03-02"]


def test_income_shows_bars_for_several_days_but_not_in_plain(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    work(desk, complete=False)
    assert "█" not in desk.screen("boss", accounts.income)
    desk.company.clock.advance(days=1)
    assert "█" in desk.screen("boss", accounts.income)
    context, out = desk.context_of("boss")
    context.printer.plain = True
    accounts.income(context)
    assert "█" not in out.getvalue()
    assert out.getvalue().startswith("date 2026-03-02, fees $")
