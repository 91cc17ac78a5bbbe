"""The ledger through the command line: explained, corrected, verified, exported, backed up and restored."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.installed_company import Company


def in_the_shell(company: Company, *statements: str) -> None:
    """Edit the file as the sqlite3 shell would, past every trigger."""
    with closing(sqlite3.connect(company.home / "popug.db", isolation_level=None)) as database:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            database.execute(statement)
        for _, trigger in triggers:
            database.execute(trigger)


def named(node: dict[str, Any]) -> list[str]:
    return [node["what"], *(what for each in node["because"] for what in named(each))]


def test_figures_are_explained_to_permitted_users(earned: Company) -> None:
    balance = earned.ask("kesha", "balance")["balance_cents"]
    explained = earned.ask("kesha", "explain", "balance")
    assert explained["figure_cents"] == balance == sum(each["amount_cents"] for each in explained["because"])
    assert all(each["entry_id"] and each["event_id"] for each in explained["because"])
    assert any("from the seed" in what for each in explained["because"] for what in named(each))
    task, income = earned.ask_all([("kesha", ("explain", "task", "1")), ("ada", ("explain", "income"))])
    assert task["figure_cents"] > 0
    assert income["figure_cents"] == -balance
    refused = earned.run_all([("kesha", ("explain", "balance", "ada")), ("kesha", ("explain", "income"))])
    assert [each.refused(5, "forbidden")["code"] for each in refused] == ["forbidden"] * 2
    shown = earned.run("explain", "balance", as_user="kesha", as_json=False)
    assert "completed by kesha" in shown.stdout


def test_entry_is_corrected_by_another(earned: Company) -> None:
    wrong = earned.statement("ada", "kesha")["entries"][-1]
    assert wrong["kind"] == "reward"
    correct = ("ledger", "correct", wrong["entry_id"], "--reason", "It was a parrot.")
    earned.run(*correct, as_user="kesha").refused(5, "forbidden")
    entry = earned.ask("ada", *correct)
    assert (entry["kind"], entry["signed_cents"]) == ("reward_reversal", -wrong["signed_cents"])
    earned.run(*correct, as_user="ada").refused(6, "not_correctable")
    earned.run("ledger", "correct", "nothing", "--reason", "x", as_user="ada").refused(3, "entry_not_found")
    assert earned.run("doctor").ok()["ok"]


def test_verify_finds_an_edited_entry_and_an_unknown_head(earned: Company) -> None:
    proof = earned.run("ledger", "verify").ok()
    assert (proof["ok"], proof["first_wrong"]) == (True, None)
    earned.ask("ada", "task", "add", "More work")
    assert earned.run("ledger", "verify", "--head", proof["head"]).ok()["head"] != proof["head"]
    unknown = earned.run("ledger", "verify", "--head", "0" * 63 + "1")
    assert (unknown.code, unknown.json["ok"]) == (7, False)
    in_the_shell(earned, "UPDATE billing_entries SET amount_cents = amount_cents + 100 WHERE position = 3")
    edited, doctor = earned.run("ledger", "verify"), earned.run("doctor")
    assert (edited.code, doctor.code) == (7, 7)
    assert "entry" in edited.json["first_wrong"]


def test_export_is_the_format_and_refuses_to_overwrite(earned: Company, folder: Path) -> None:
    told = earned.run("ledger", "export", "--format", "csv", as_user="ada", as_json=False)
    assert (told.code, told.stderr) == (0, "")
    assert told.stdout.startswith("record,business_date,")
    out = ("ledger", "export", "--format", "beancount", "--out", str(folder / "books"))
    assert earned.ask("ada", *out)["bytes"] == (folder / "books").stat().st_size
    earned.run(*out, as_user="ada").refused(6, "file_exists")
    earned.ask("ada", *out, "--force")
    earned.run(*out, "--force", as_user="kesha").refused(5, "forbidden")
    earned.run("ledger", "export", "--format", "xls", as_user="ada").refused(2, "usage")


def test_company_is_backed_up_and_restored(earned: Company, folder: Path) -> None:
    before = earned.balance_cents("ada", "kesha")
    file = folder / "backup"
    answer = earned.run("backup", str(file)).ok()
    assert answer == {"path": str(file), "bytes": file.stat().st_size}
    earned.run("backup", str(file)).refused(6, "file_exists")
    earned.complete("kesha", earned.add_task("kesha", "More work")["number"])
    earned.run("restore", str(file)).refused(2, "needs_yes")
    restored = earned.run("restore", str(file), "--yes").ok()
    assert restored["path"] == str(earned.home)
    earned.run("balance", as_user="kesha").refused_with_exit(4)
    earned.log_in_again("ada")
    assert earned.balance_cents("ada", "kesha") == before
    assert earned.run("doctor").ok()["ok"]
    elsewhere = ("--home", str(folder / "elsewhere"))
    assert earned.run("restore", str(file), "--yes", *elsewhere).ok()["replaced"] is None
    assert earned.run("doctor", *elsewhere).ok()["ok"]
    assert (folder / "elsewhere").stat().st_mode & 0o777 == 0o700


def test_fairness_and_past_analytics_are_answered(earned: Company) -> None:
    fairness, analytics, early = earned.ask_all(
        [
            ("kesha", ("tasks", "fairness")),
            ("ada", ("analytics", "--as-of", "2100-01-01T00:00:00Z")),
            ("ada", ("analytics", "--as-of", "1999-01-01T00:00:00Z")),
        ]
    )
    assert fairness == {"people": [{"username": "kesha", "assigned": 4, "expected": 4.0}], "p_value": 1.0}
    assert analytics["in_red_count"] == early["in_red_count"] == early["income_cents"] == 0
