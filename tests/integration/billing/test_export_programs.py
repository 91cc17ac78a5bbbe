"""Ledger, hledger and beancount read an export in file order, and spreadsheets read no formula in one."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pytest

from popug_cli.cli.output import disk_sorter
from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.billing import CloseDay, GetBalance, GetIncome
from popug_cli.messages.tasks import AddTask
from tests.integration.billing.test_ledger_export import NASTY, AsBoss, exported
from tests.support.company import InProcess, SeededChance
from tests.support.ledger_company import company_that_pays, complete

PEOPLE = ("management", "payouts", "kesha")
SPREADSHEET_TITLES = (
    "feed;=1+1",
    "feed; '+1",
    'feed;"=1',
    "feed; ;@SUM(A1)",
    "\uff1d1+1",
    "feed;\uff20SUM(A1)",
    '"=1+1',
    "a; b; c",
)
FORMULA_CHARACTERS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
DAYS = (2, 3, 4, 5)


def program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is not installed; .ci/run installs it")
    return found


def run(*command: str) -> str:
    environment = {**os.environ, "LANG": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """A company that closes each day late, so that payouts are recorded after entries of the next day."""
    return company_that_pays(len(DAYS) - 1, tmp_path_factory.mktemp("company"), late_company)


def late_company(root: Path, chance: SeededChance) -> InProcess:
    company = InProcess(root, chance=chance)
    for name in PEOPLE:
        company.hire(name)
    for day in DAYS:
        company.clock.instant = datetime(2026, 3, day, 9, tzinfo=UTC)
        for number in range(3):
            company.act("boss", AddTask(title=f"Feed date:2020-01-01, cage {day}.{number}"))
        company.clock.advance(hours=1)
        for number in range(3):
            complete(company, 3 * (day - DAYS[0]) + number + 1)
        if day > DAYS[0]:
            company.act("boss", CloseDay(day=date(2026, 3, day - 1), send_mail=False))
    for title in (*NASTY, "  ;  :tag: @ $1 = $2 {3}", "Кормить попугая ★"):
        company.act("boss", AddTask(title=title))
    dates = [
        row["business_date"] for row in company.rows("SELECT business_date FROM billing_entries ORDER BY position")
    ]
    assert dates != sorted(dates), "the company must have an entry that was recorded late"
    return company


@pytest.fixture(scope="module")
def journal(company: InProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("export") / "popug.journal"
    file.write_text(exported(company, "hledger"), encoding="utf-8")
    return file


def cents(amount: str) -> int:
    return round(float(re.sub("[$,]", "", amount)) * 100)


def balances(company: InProcess) -> dict[str, int]:
    return {name: company.act("boss", GetBalance(username=name)).balance_cents for name in PEOPLE}


def test_ledger_accepts_it_strict_and_pedantic(company: InProcess, journal: Path) -> None:
    text = run(program("ledger"), "--strict", "--pedantic", "-f", str(journal), "balance", "--flat", "people")
    found = dict.fromkeys(PEOPLE, 0)
    for amount, name in re.findall(r"(\S+)  people:(\S+)", text):
        found[name] = cents(amount)
    assert found == balances(company)


def test_hledger_accepts_it_strict_and_in_order(journal: Path) -> None:
    run(program("hledger"), "-f", str(journal), "check", "--strict", "ordereddates")


def test_hledger_reads_no_tag_in_a_comment(journal: Path) -> None:
    tags = run(program("hledger"), "-f", str(journal), "tags").split()
    assert set(tags) <= {"type"}


def test_hledger_has_a_balance_sheet_and_income(company: InProcess, journal: Path) -> None:
    sheet = hledger_report(journal, "balancesheet")
    assert {f"people:{name}": balance for name, balance in balances(company).items() if balance} == sheet
    income_cents = company.act("boss", GetIncome()).total_income_cents
    assert hledger_report(journal, "incomestatement") == {"management": income_cents}


def hledger_report(journal: Path, report: str) -> dict[str, int]:
    rows = csv.reader(io.StringIO(run(program("hledger"), "-f", str(journal), report, "-O", "csv")))
    accounts = [row for row in rows if row[0].startswith("people:") or row[0] == "management"]
    return {name: cents(amount) for name, amount in accounts}


def test_journal_declares_every_name_before_its_use(journal: Path) -> None:
    declared: set[str] = set()
    for line in journal.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"account (\S+)", line):
            declared.add(match[1])
        elif match := re.match(r"    ([a-z][^ ]*)  \$", line):
            assert match[1] in declared, line
    assert declared == {"people", "management", "payouts", "people:boss", *(f"people:{name}" for name in PEOPLE)}


def test_bean_check_accepts_accounts_in_file_order(company: InProcess, tmp_path: Path) -> None:
    file, text = tmp_path / "popug.beancount", exported(company, "beancount")
    file.write_text(text, encoding="utf-8")
    assert run(program("bean-check"), str(file)) == ""
    opened, first_use = text.rindex(" open "), text.index(" * ")
    assert opened < first_use
    assert {"Liabilities:People:Management", "Equity:Management"} <= set(re.findall(r" open (\S+)", text))


def test_csv_tells_a_person_from_the_company(company: InProcess) -> None:
    rows = [*csv.DictReader(io.StringIO(exported(company, "csv")))]
    keys = [(row["business_date"], row["account"], row["account_owner"]) for row in rows if row["record"] == "balance"]
    assert len(keys) == len(set(keys))
    sums: dict[tuple[str, str], int] = {}
    for row in rows:
        if row["record"] == "entry":
            signed = int(row["amount_cents"]) * (1 if row["side"] == "credit" else -1)
            for prefix, moved in (("", signed), ("other_", -signed)):
                key = (row[f"{prefix}account"], row[f"{prefix}account_owner"])
                sums[key] = sums.get(key, 0) + moved
    assert {name: sums.get((name, "person"), 0) for name in PEOPLE} == balances(company)
    assert sums["management", "company"] == company.act("boss", GetIncome()).total_income_cents


@pytest.mark.parametrize("separator", [",", ";"])
def test_csv_has_no_formula_at_either_separator(company: InProcess, separator: str) -> None:
    for title in SPREADSHEET_TITLES:
        company.act("boss", AddTask(title=title))
    text = exported(company, "csv")
    cells = [cell for row in csv.reader(io.StringIO(text), delimiter=separator) for cell in row]
    assert [cell for cell in cells if cell.strip(" \"'").startswith(FORMULA_CHARACTERS) and cell[0] != "'"] == []


def test_csv_quotes_a_cell_with_a_semicolon(company: InProcess) -> None:
    company.act("boss", AddTask(title="a; b; c"))
    text = exported(company, "csv")
    assert ',"a; b; c",' in text
    assert "a; b; c" in {row["task_title"] for row in csv.DictReader(io.StringIO(text))}


def test_export_of_a_new_company_is_accepted(tmp_path: Path) -> None:
    company = InProcess(tmp_path / "new")
    file = tmp_path / "new.journal"
    file.write_text(exported(company, "hledger", AsBoss(company)), encoding="utf-8")
    run(program("hledger"), "-f", str(file), "check", "--strict", "ordereddates")
    run(program("ledger"), "--strict", "--pedantic", "-f", str(file), "balance")


def test_export_larger_than_memory_is_the_same(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    before = exported(company, "hledger")
    monkeypatch.setattr(disk_sorter, "MAX_TEXTS_IN_MEMORY", 7)
    assert exported(company, "hledger") == before


def test_full_disk_of_temporary_files_is_reported(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_sorter, "MAX_TEXTS_IN_MEMORY", 7)
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "wb"))
    with pytest.raises(Unavailable, match=r"^The disk is full \("):
        exported(company, "beancount")


def test_export_without_temporary_directory(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container, the root file system may be read-only."""
    before = exported(company, "hledger")
    monkeypatch.setattr(disk_sorter, "MAX_TEXTS_IN_MEMORY", 7)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc"])
    assert exported(company, "hledger") == before
