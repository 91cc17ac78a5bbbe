"""The ledger through the command line: explained, corrected, verified, exported, backed up and restored."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.installed_company import Company


def in_the_shell(company: Company, *statements: str) -> None:
    """Edit the database as the shell of sqlite3 or psql would, past every trigger."""
    if company.database_server:
        with company.database_server.session(company.database) as session:
            session.execute("SET session_replication_role = replica")
            for statement in statements:
                session.execute(statement.encode())
        return
    with closing(sqlite3.connect(company.home / "popug.db", isolation_level=None)) as database:
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            database.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            database.execute(statement)
        for _, trigger in triggers:
            database.execute(trigger)


def copied(company: Company, folder: Path) -> Path:
    """Copy the database and the files next to it, as a user would while no command runs; return the database."""
    folder.mkdir()
    for file in company.home.glob("popug.db*"):
        shutil.copyfile(file, folder / file.name)
    return folder / "popug.db"


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
    export = earned.run("ledger", "export", "--format", "csv", as_user="ada", as_json=False)
    assert (export.code, export.stderr) == (0, "")
    assert export.stdout.startswith("record,business_date,")
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


def test_copied_files_are_restored_with_their_log(earned: Company, folder: Path) -> None:
    earned.add_task("kesha", "The last one")
    copy = copied(earned, folder / "copy")
    elsewhere = ("--home", str(folder / "elsewhere"))
    assert earned.run("restore", str(copy), "--yes", *elsewhere).ok()["settings"] == []
    with closing(sqlite3.connect(folder / "elsewhere" / "popug.db")) as database:
        assert ("The last one",) in database.execute("SELECT title FROM tasks_tasks").fetchall()
    assert earned.run("doctor", *elsewhere).ok()["ok"]
    assert not (folder / "elsewhere" / "popug.db-wal").exists()


def test_restore_names_settings_and_keeps_those_of_mail(earned: Company, folder: Path) -> None:
    earned.run("config", "set", "mail.from", "theirs@example.com").ok()
    earned.run("config", "set", "bus.max_attempts", "9").ok()
    earned.run("backup", str(folder / "backup")).ok()
    earned.run("config", "set", "mail.from", "own@example.com").ok()
    earned.run("config", "set", "bus.max_attempts", "4").ok()
    shown = earned.run("restore", str(folder / "backup"), "--yes", as_json=False).stdout
    assert "mail.from stays 'own@example.com'; the backup has 'theirs@example.com'" in " ".join(shown.split())
    assert "bus.max_attempts is now 9; it was 4." in " ".join(shown.split())
    answer = earned.run("restore", str(folder / "backup"), "--yes", "--mail-settings").ok()
    difference = {"key": "mail.from", "home": "own@example.com", "backup": "theirs@example.com", "kept": False}
    assert answer["settings"] == [difference]


def test_changed_users_and_triggers_fail_doctor_and_restore(earned: Company, folder: Path) -> None:
    in_the_shell(earned, "UPDATE identity_users SET password_hash = NULL WHERE username = 'kesha'")
    with closing(sqlite3.connect(earned.home / "popug.db", isolation_level=None)) as database:
        database.execute(
            "CREATE TRIGGER stay AFTER UPDATE OF revoked_at ON identity_tokens WHEN NEW.revoked_at IS NOT NULL"
            " BEGIN UPDATE identity_tokens SET revoked_at = NULL WHERE token_id = NEW.token_id; END"
        )
    failed = {check["name"]: check["detail"] for check in earned.run("doctor").json["checks"] if not check["ok"]}
    assert failed.keys() == {"schema", "users_match_events"}
    assert "the trigger stay is not popug's" in failed["schema"]
    assert "kesha (password)" in failed["users_match_events"]
    copy = copied(earned, folder / "copy")
    elsewhere = ("--home", str(folder / "elsewhere"))
    earned.run("restore", str(copy), "--yes", *elsewhere).refused(7, "corrupt_database")
    assert not (folder / "elsewhere").exists()
