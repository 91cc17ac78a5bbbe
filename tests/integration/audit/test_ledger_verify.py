"""``ledger verify`` and ``doctor`` accept an untouched history and name the first fault of any other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree

import pytest

from popug_cli.app import LocalBackend
from popug_cli.audit.doctor import examine
from popug_cli.bus.context import Context, Runtime
from popug_cli.kernel.errors import IntegrityViolation
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Role
from popug_cli.messages.billing import CloseDay, CorrectEntry
from popug_cli.messages.company import CheckHealth, ExplainBalance, LedgerProof, VerifyLedger
from popug_cli.messages.identity import IssueToken, SetRole
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.messages.tasks import AddTask, ShuffleTasks
from tests.support.company import InProcess, SeededChance
from tests.support.ledger_company import company, company_that_pays, complete, copy_of, original, tamper

__all__ = ["company", "original"]

LAST_ENTRY = "(SELECT max(position) FROM billing_entries)"
COLUMNS = "employee_id, amount_cents, kind, business_date, occurred_at, recorded_at, task_id, corrects"


def verify(company: InProcess, head: str | None = None) -> LedgerProof:
    return company.backend.perform(VerifyLedger(head=head))


def test_verify_accepts_untouched_history_and_earlier_heads(company: InProcess) -> None:
    proof = verify(company)
    assert (proof.ok, proof.first_wrong) == (True, None)
    assert proof.entries == len(company.rows("SELECT 1 FROM billing_entries"))
    heads = [row["hash"] for row in company.rows("SELECT hash FROM bus_links ORDER BY last_sequence")]
    assert proof.head == heads[-1]
    assert verify(company, heads[3].upper()).ok
    paid = company.rows(
        "SELECT json_extract(envelope, '$.data.log_head') AS head FROM bus_log WHERE type LIKE '%payout%'"
    )
    assert paid
    assert all(verify(company, row["head"]).ok for row in paid)


def test_head_is_not_found_without_readable_links(company: InProcess) -> None:
    tamper(company, "DROP TABLE bus_links")
    assert "cannot be read" in (verify(company, "f" * 64).first_wrong or "")


def test_head_of_another_history_is_reported(company: InProcess) -> None:
    proof = verify(company, "f" * 64)
    assert not proof.ok
    assert "not part of this history" in (proof.first_wrong or "")


@pytest.mark.parametrize(
    ("statements", "named"),
    [
        (
            [f"UPDATE billing_entries SET amount_cents = 1 WHERE position = {LAST_ENTRY}"],
            "amount_cents is 1, published as",
        ),
        (["DELETE FROM billing_entries WHERE position = 3"], "entries_match_events"),
        ([f"DELETE FROM billing_entries WHERE position = {LAST_ENTRY}"], "published but not in the ledger"),
        (["UPDATE billing_entries SET business_date = '2026-03-09' WHERE position = 4"], "business_date is 2026-03-09"),
        (["UPDATE billing_entries SET recorded_at = '2026-03-09' WHERE position = 4"], "recorded_at is 2026-03-09"),
        (["UPDATE billing_entries SET occurred_at = '2026-03-09' WHERE position = 4"], "occurred_at is 2026-03-09"),
        (
            [
                f"INSERT INTO billing_entries (entry_id, event_id, {COLUMNS}) SELECT 'twice', 'twice', {COLUMNS}"
                " FROM billing_entries WHERE position = 1"
            ],
            "entry twice (in the ledger but not published)",
        ),
        (["UPDATE bus_log SET envelope = replace(envelope, '00', '01') WHERE sequence = 9"], "hash_chain"),
        (["DELETE FROM bus_log WHERE sequence = 9"], "log_without_gaps"),
        (["DELETE FROM bus_log WHERE sequence > (SELECT max(sequence) - 2 FROM bus_log)"], "hash_chain"),
        (["UPDATE bus_links SET hash = replace(hash, 'a', 'b')"], "hash_chain"),
        (["UPDATE billing_tasks SET fee_cents = 3000 - fee_cents WHERE fee_cents <> 1500"], "one_price_per_task"),
        (["UPDATE billing_days SET fees_cents = fees_cents + 1"], "closed_days_never_change"),
        (["UPDATE tasks_people_history SET assignable = 1 - assignable WHERE rowid = 3"], "draws_reproducible"),
        (["UPDATE billing_days SET in_red_count = in_red_count + 1"], "closed_days_match_events"),
        (["UPDATE billing_days SET closed_at = '2026-03-02T09:00:00.000000Z'"], "closed_days"),
        (["INSERT INTO billing_account_days VALUES ('management', '2026-03-04', 0, 0, 0, 0)"], "balances_by_day"),
        (
            [
                "UPDATE billing_accounts SET username = 'swap' WHERE username = 'kesha'",
                "UPDATE billing_accounts SET username = 'kesha' WHERE username = 'gosha'",
                "UPDATE billing_accounts SET username = 'gosha' WHERE username = 'swap'",
            ],
            "accounts_belong_to_users",
        ),
        (
            [
                "UPDATE mail_outbox SET status = 'sent', sent_at = queued_at, sent_to = 'x'"
                " WHERE mail_id = (SELECT min(mail_id) FROM mail_outbox)"
            ],
            "sent_mail_has_event",
        ),
        (["UPDATE billing_tasks SET title = 'Something else' WHERE number = 2"], "task_copies_agree"),
        (["UPDATE billing_tasks SET number = 77 WHERE number = 2"], "task_copies_agree"),
        (["UPDATE tasks_tasks SET title = 'Something else' WHERE number = 2"], "task_copies_agree"),
        (["UPDATE tasks_tasks SET jira_id = 'POPUG-1' WHERE number = 2"], "task #2 (jira_id)"),
        (["DELETE FROM tasks_tasks WHERE number = 6"], "task #6 (published but not stored)"),
        (
            ["UPDATE tasks_tasks SET completed_at = created_at WHERE status = 'completed'"],
            "completion_times_match_events",
        ),
        (["UPDATE tasks_shuffles SET seed = 'other'"], "its draw differs from that in the log"),
        (["DELETE FROM mail_receivers WHERE username = 'kesha'"], "user_copies_agree"),
        (["UPDATE billing_accounts SET registered_at = '2001-01-01T00:00:00.000000Z'"], "user_copies_agree"),
        (["UPDATE mail_outbox SET payload = replace(payload, 'lines', 'limes')"], "one_payslip_per_payout"),
        (
            ["UPDATE mail_outbox SET payload = json_set(payload, '$.opening_balance_cents', 1)"],
            "one_payslip_per_payout",
        ),
        (
            ["UPDATE tasks_tasks SET fee_cents = NULL, reward_cents = NULL WHERE number = 2"],
            "task_prices_match_billing",
        ),
        (["UPDATE billing_accounts SET kind = 'employee' WHERE account_id = 'management'"], "account management"),
        (["INSERT INTO billing_accounts VALUES ('x', 'employee', 'x', 0, '2026-03-02')"], "accounts_belong_to_users"),
        (["INSERT INTO bus_inbox VALUES ('billing', 99999, 99999)"], "billing has processed 99999"),
        (["UPDATE tasks_draw_counts SET draws_count = draws_count + 1"], "the number of draws of"),
        (["DELETE FROM tasks_draw_counts"], "the number of draws of"),
        (["INSERT INTO tasks_draw_counts VALUES (0, 'x', 1)"], "the number of draws of x with the candidates since 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_edited_file_is_named(company: InProcess, statements: list[str], named: str) -> None:
    tamper(company, *statements)
    proof = verify(company)
    assert not proof.ok
    assert named in (proof.first_wrong or "")
    assert not company.backend.perform(CheckHealth()).ok


@pytest.mark.parametrize("kind", ["task_assigned", "task_priced", "task_completed"])
def test_bit_of_a_stored_type_is_named(company: InProcess, kind: str) -> None:
    """No hash covers the number of the type, which follows the envelope."""
    (row,) = company.rows(f"SELECT envelope, frequent_type FROM bus_log WHERE type LIKE '%.{kind}.%' LIMIT 1")
    tamper(company, "PRAGMA wal_checkpoint(TRUNCATE)")
    database = company.root / "popug.db"
    envelope, number = row["envelope"].encode(), row["frequent_type"]
    content = database.read_bytes()
    assert envelope + bytes([number]) in content
    database.write_bytes(content.replace(envelope + bytes([number]), envelope + bytes([number ^ 1])))
    assert not verify(company).ok
    health = company.backend.perform(CheckHealth())
    assert "event_types_match_envelopes" in {check.name for check in health.checks if not check.ok}


@pytest.mark.parametrize("statement", ["DROP TABLE bus_log", "DROP TABLE storage_home", "DELETE FROM alembic_version"])
def test_file_without_essential_tables_is_damaged(company: InProcess, statement: str) -> None:
    tamper(company, statement)
    damaged = pytest.raises(IntegrityViolation, match=r"is damaged.*(no such table|already exists)")
    backend = LocalBackend(Home(company.root), clock=company.clock)
    with damaged:
        backend.perform(CheckHealth())
    with damaged:
        backend.perform(VerifyLedger())
    backend.close()


def test_explain_refused_if_balance_differs_from_entries(company: InProcess) -> None:
    tamper(company, "UPDATE billing_accounts SET balance_cents = balance_cents + 1")
    with pytest.raises(IntegrityViolation, match="cannot be explained"):
        company.act("boss", ExplainBalance(username="kesha"))


@pytest.mark.parametrize("kept", ["0", "20", "(SELECT max(last_sequence) - 1 FROM bus_links)"])
def test_verify_finds_removed_links(company: InProcess, kept: str) -> None:
    """Unlike an event from outside, one published by popug has rows that were written with it."""
    tamper(company, f"DELETE FROM bus_links WHERE last_sequence > {kept}")
    assert "links were removed" in (verify(company).first_wrong or "")


@pytest.mark.parametrize("what", ["a registration", "a login", "a task", "a completion", "a shuffle", "a close"])
def test_missing_last_link_is_found_after_any_command(company: InProcess, original: InProcess, what: str) -> None:
    (last,) = company.rows("SELECT max(last_sequence) AS link FROM bus_links")
    if what == "a registration":
        company.hire("late")
    elif what == "a login":
        copytree(original.root / "keys", company.root / "keys")
        company.act("boss", IssueToken(username="kesha", ttl_seconds=60))
    elif what == "a task":
        company.act("boss", AddTask(title="A late one"))
    elif what == "a completion":
        complete(company, 2)
    elif what == "a shuffle":
        company.act("boss", ShuffleTasks())
    else:
        company.act("boss", CloseDay(send_mail=False))
    tamper(company, f"DELETE FROM bus_links WHERE last_sequence > {last['link']}")
    assert "links were removed" in (verify(company).first_wrong or "")


def test_copied_event_counts_as_from_outside(company: InProcess) -> None:
    for type_ in ("user_registered", "task_created", "task_completed", "task_priced", "tasks_shuffled"):
        tamper(
            company,
            "INSERT INTO bus_log (envelope) SELECT json_set(envelope, '$.id', 'again-' || sequence) FROM bus_log"
            f" WHERE type LIKE 'popug.%.{type_}.v%' AND id NOT LIKE 'again-%' ORDER BY sequence LIMIT 2",
        )
    proof = verify(company)
    assert "links were removed" not in (proof.first_wrong or "")


def test_cut_of_last_links_is_found_with_a_kept_head(company: InProcess) -> None:
    kept = verify(company).head
    tamper(company, "DELETE FROM bus_links WHERE last_sequence = (SELECT max(last_sequence) FROM bus_links)")
    assert "not part of this history" in (verify(company, kept).first_wrong or "")


def test_consistent_cut_is_found_only_with_a_kept_head(company: InProcess, tmp_path: Path) -> None:
    """Restore every table: events, entries, links, cursors, balances, tasks, mail."""
    before = copy_of(company, tmp_path / "before").root / "popug.db"
    earlier = verify(company).head
    company.act("boss", ShuffleTasks())
    company.act("boss", CloseDay(send_mail=False))
    kept = verify(company).head
    tables = [row["name"] for row in company.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    back = [
        f"DELETE FROM {table}; INSERT INTO {table} ({_columns(company, table)})"
        f" SELECT {_columns(company, table)} FROM past.{table}"
        for table in tables
    ]
    tamper(company, "PRAGMA foreign_keys=OFF", f"ATTACH '{before}' AS past", *"; ".join(back).split("; "))
    assert company.backend.perform(CheckHealth()).ok
    assert verify(company).ok
    assert verify(company, earlier).ok
    assert "not part of this history" in (verify(company, kept).first_wrong or "")


def _columns(company: InProcess, table: str) -> str:
    return ", ".join(row["name"] for row in company.rows(f"PRAGMA table_info({table})"))


def test_verify_is_clean_between_any_two_transactions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes write at the same time, so that the check may see consumers in the midst of catching up."""
    snapshots, real = [0], Runtime.writing

    @contextmanager
    def writing(runtime: Runtime, principal: Principal) -> Iterator[Context]:
        with real(runtime, principal) as context:
            yield context
        with runtime.reading(OPERATOR) as context:
            snapshots[0] += 1
            assert [check for check in examine(context).checks if not check.ok] == []

    def work(root: Path, chance: SeededChance) -> InProcess:
        company = InProcess(root, chance=chance)
        company.hire("kesha")
        company.act("boss", AddTask(title="Feed the cage"))
        company.hire("gosha")
        company.act("boss", ShuffleTasks())
        complete(company, 1)
        company.act("boss", SetRole(username="gosha", role=Role.ACCOUNTANT))
        company.clock.advance(hours=12)
        company.act("boss", CloseDay(send_mail=False))
        [fee] = company.rows("SELECT entry_id FROM billing_entries WHERE kind = 'fee' ORDER BY position LIMIT 1")
        company.act("boss", CorrectEntry(entry_id=fee["entry_id"], reason="never agreed"))
        return company

    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "writing", writing)
        company_that_pays(1, tmp_path, work)
    assert snapshots[0] > 30
