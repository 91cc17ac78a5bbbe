"""The real hledger and beancount accept exports, and compute popug's balances to the cent."""

import csv
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from popug_cli.cli.commands.money import ledger
from popug_cli.cli.context import CommandContext, GlobalOptions
from popug_cli.cli.output.ledger_formats import JournalFormat
from popug_cli.cli.output.printer import Printer
from popug_cli.kernel.errors import Conflict
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay, CorrectEntry, ExportDayEnds, ExportLedger, GetBalance
from popug_cli.messages.tasks import AddTask
from tests.support.company import InProcess
from tests.support.ledger_company import company_with_a_past

PEOPLE = ("kesha", "gosha", "ara.b-c_d")
NASTY = [
    "=HYPERLINK(1)",
    "@SUM(A1)",
    "+1",
    "-1",
    'a "quote", a \\backslash\\ and a ; semicolon | bar',
    "date:2020-01-01 ; date:2020-01-01",
    "  * ! (code) #tag ^link {brace}",
]
HLEDGER = shutil.which("hledger")
BEAN_CHECK = shutil.which("bean-check", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
needs_hledger = pytest.mark.skipif(HLEDGER is None, reason="hledger is not installed: apt-get install hledger")
needs_beancount = pytest.mark.skipif(BEAN_CHECK is None, reason="beancount is not installed: pip install beancount")


class AsBoss:
    """The backend of a face on which the admin does everything."""

    def __init__(self, company: InProcess, before_each: Callable[[Message[Any]], None] = lambda message: None) -> None:
        self.company = company
        self.before_each = before_each

    def perform(self, message: Message[Any], token: str | None = None) -> Any:
        self.before_each(message)
        return self.company.act("boss", message)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    company = company_with_a_past(tmp_path_factory.mktemp("company"))
    for title in NASTY:
        company.act("boss", AddTask(title=title))
    (entry,) = company.rows("SELECT entry_id FROM billing_entries WHERE kind = 'reward' ORDER BY position LIMIT 1")
    company.act("boss", CorrectEntry(entry_id=entry["entry_id"], reason="wrong"))
    company.act("boss", CloseDay(send_mail=False))
    company.act("boss", AddTask(title="After the close"))
    return company


def context_of(backend: Any) -> CommandContext:
    return CommandContext(GlobalOptions(backend=backend, printer=Printer(io.StringIO(), io.StringIO())), as_json=False)


def exported(company: InProcess, format_: str, backend: AsBoss | None = None) -> str:
    context = context_of(backend or AsBoss(company))
    ledger.export(context, JournalFormat(format_))
    assert isinstance(context.printer.out, io.StringIO)
    return context.printer.out.getvalue()


def balances(company: InProcess) -> dict[str, int]:
    rows = company.rows("SELECT coalesce(username, account_id) AS name, balance_cents FROM billing_accounts")
    return {row["name"]: row["balance_cents"] for row in rows if row["balance_cents"]}


def run(*command: str) -> str:
    environment = {**os.environ, "LANG": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def cents(amount: str) -> int:
    return round(float(amount.replace("$", "").replace(",", "")) * 100)


@needs_hledger
def test_hledger_accepts_it_and_finds_the_same_balances(company: InProcess, tmp_path: Path) -> None:
    journal = tmp_path / "popug.journal"
    journal.write_text(exported(company, "hledger"), encoding="utf-8")
    run("hledger", "-f", str(journal), "check", "--strict")
    assert hledger_balances(journal) == balances(company)
    for day in (2, 3, 4):
        ends = hledger_balances(journal, "people", "-e", f"2026-03-0{day + 1}")
        for name in PEOPLE:
            balance = company.act("boss", GetBalance(username=name, as_of_date=date(2026, 3, day))).balance_cents
            assert ends.get(name, 0) == balance


def hledger_balances(journal: Path, *arguments: str) -> dict[str, int]:
    told = run("hledger", "-f", str(journal), "balance", "--flat", "-N", "-O", "csv", *arguments)
    rows = csv.DictReader(io.StringIO(told))
    return {row["account"].removeprefix("people:"): cents(row["balance"]) for row in rows}


@needs_hledger
def test_hledger_finds_a_changed_amount(company: InProcess, tmp_path: Path) -> None:
    journal = tmp_path / "popug.journal"
    whole = exported(company, "hledger")
    place = whole.index("fee #1")
    first, second = whole[:place], whole[place:].replace(".00", ".01", 2)
    journal.write_text(first + second, encoding="utf-8")
    done = subprocess.run([str(HLEDGER), "-f", str(journal), "check"], capture_output=True, check=False)
    assert done.returncode != 0


@needs_beancount
def test_beancount_accepts_it_and_finds_the_same_balances(company: InProcess, tmp_path: Path) -> None:
    loader: Any = import_module("beancount.loader")
    realization: Any = import_module("beancount.core.realization")
    journal = tmp_path / "popug.beancount"
    journal.write_text(exported(company, "beancount"), encoding="utf-8")
    assert run(str(BEAN_CHECK), str(journal)) == ""
    entries, errors, _ = loader.load_file(str(journal))
    assert errors == []
    names = {directive.account: directive.meta["name"] for directive in entries if type(directive).__name__ == "Open"}
    assert set(names.values()) == {*PEOPLE, "boss", "management", "payouts"}
    tree = realization.realize(entries)
    actual_balances = {}
    for account, name in names.items():
        for position in realization.get(tree, account).balance:
            actual_balances[name] = int(position.units.number * 100)
    assert actual_balances == balances(company)


@pytest.mark.parametrize("format_", ["hledger", "beancount", "csv"])
def test_every_account_has_its_balance_at_every_days_end(company: InProcess, format_: str) -> None:
    told = exported(company, format_)
    marks = {"hledger": "end of the day", "beancount": " balance ", "csv": "balance,"}
    lines = [line for line in told.splitlines() if marks[format_] in line]
    accounts, days = 6, 4
    assert len(lines) == accounts * days


def test_no_cell_is_a_formula_and_every_cent_is_there(company: InProcess) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(company, "csv"))))
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert {"'=HYPERLINK(1)", "'@SUM(A1)", "'+1", "'-1", NASTY[4]} <= set(cells)
    sums: dict[str, int] = {}
    for row in rows:
        if row["record"] == "entry":
            signed = int(row["amount_cents"]) * (1 if row["side"] == "credit" else -1)
            for account, moved in ((row["account"], signed), (row["other_account"], -signed)):
                sums[account] = sums.get(account, 0) + moved
    assert {account: moved for account, moved in sums.items() if moved} == balances(company)


def test_export_leaves_out_entries_posted_during_export(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    before = exported(company, "csv")
    monkeypatch.setattr(ledger, "MAX_ENTRIES_PER_CHUNK", 3)
    monkeypatch.setattr("popug_cli.billing.export.DAY_ENDS_AT_ONCE", 1)
    busy = AsBoss(company, lambda message: _work(company, message))
    entries = company.rows("SELECT count(*) AS n FROM billing_entries")[0]["n"]
    during = exported(company, "csv", busy)
    assert company.rows("SELECT count(*) AS n FROM billing_entries")[0]["n"] > entries
    assert during == before


def _work(company: InProcess, message: Message[Any]) -> None:
    if not isinstance(message, ExportLedger) or message.up_to is not None:
        assert isinstance(message, ExportLedger | ExportDayEnds)
        company.act("boss", AddTask(title="Meanwhile"))


def test_export_refuses_to_overwrite_without_force(company: InProcess, tmp_path: Path) -> None:
    context, out = context_of(AsBoss(company)), tmp_path / "ledger.csv"
    ledger.export(context, JournalFormat.CSV, out)
    written = out.read_text()
    with pytest.raises(Conflict) as refusal:
        ledger.export(context, JournalFormat.HLEDGER, out)
    assert refusal.value.code == "file_exists"
    assert out.read_text() == written
    ledger.export(context, JournalFormat.HLEDGER, out, force=True)
    assert out.read_text().startswith(";")
