"""The state of a home in a normal form, without ids, times and the order of events."""

import hashlib
import json
import sqlite3
import stat
import zipfile
from contextlib import closing
from email import message_from_bytes
from pathlib import Path
from typing import Any

from popug_cli.identity.keys import signing_key
from popug_cli.kernel.home import Home

State = dict[str, Any]

PERSON = "(SELECT username FROM identity_users u WHERE u.user_id = t.{})"
TABLES = {
    "people": "SELECT username, email, role, active, password_hash FROM identity_users",
    "tokens": f"SELECT {PERSON.format('user_id')}, kind, scope, revoked_at IS NOT NULL FROM identity_tokens t",
    "known to tasks": "SELECT username, role, active, assignable FROM tasks_people",
    "tasks": f"SELECT number, title, jira_id, status, fee_cents, reward_cents, {PERSON.format('creator_id')},"
    f" {PERSON.format('assignee_id')} FROM tasks_tasks t",
    "imported": "SELECT identity, number FROM tasks_imported",
    "shuffles": "SELECT state, candidates_count, task_count, error FROM tasks_shuffles",
    "accounts": "SELECT kind, username, balance_cents FROM billing_accounts",
    "prices": "SELECT number, title, fee_cents, reward_cents FROM billing_tasks",
    "entries": f"SELECT kind, {PERSON.format('employee_id')}, amount_cents, business_date,"
    " (SELECT number FROM billing_tasks b WHERE b.task_id = t.task_id), corrects IS NOT NULL FROM billing_entries t",
    "balances by day": f"SELECT {PERSON.format('employee_id')}, business_date, fees_cents, rewards_cents,"
    " payouts_cents, balance_cents FROM billing_account_days t",
    "days": "SELECT business_date, fees_cents, rewards_cents, payouts_cents, paid_count, in_red_count"
    " FROM billing_days",
    "in the red": f"SELECT {PERSON.format('user_id')}, balance_cents FROM analytics_people t",
    "analytics by day": "SELECT business_date, fees_cents, rewards_cents, closed, in_red_count FROM analytics_days",
    "dearest": "SELECT number, title, reward_cents, business_date FROM analytics_tasks",
    "mails": f"SELECT {PERSON.format('user_id')}, business_date, kind, amount_cents, status FROM mail_outbox t",
    "set aside": "SELECT consumer, state, error FROM bus_set_aside",
    "events": "SELECT type, count(*) FROM bus_log GROUP BY type",
}


def state_of(home: Home) -> State:
    """Return the content of the home; empty without a company. Raise if a file is damaged."""
    state: State = {"files": _files(home)}
    if not home.database.exists():
        return {}
    with closing(sqlite3.connect(f"{home.database.as_uri()}?mode=rw", uri=True)) as database:
        try:
            for name, statement in TABLES.items():
                state[name] = sorted((list(row) for row in database.execute(statement)), key=repr)
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return {}
        sent = "SELECT message_id FROM mail_outbox WHERE status = 'sent'"
        state["lost mail"] = sorted({name for (name,) in database.execute(sent)} - {*state["files"]["mails"]})
        state["files"]["mails"] = len(state["files"]["mails"])
    if state["people"]:
        signing_key(home)  # raises if no token can be signed
    return state if state["people"] else {}


def without_lost_login(state: State) -> State:
    """Return the state without sessions whose token is unknown: revoked ones, or those in the log only."""
    tokens, events = list(state["tokens"]), dict(state["events"])
    lost = next((row for row in reversed(tokens) if row[1] == "session" and row[3]), None)
    lost = lost or next(row for row in tokens if row[1] == "session")
    tokens.remove(lost)
    for kind in ("token_issued", "token_revoked") if lost[3] else ("token_issued",):
        events[f"popug.identity.{kind}.v1"] -= 1
    return state | {"tokens": tokens, "events": [[name, times] for name, times in sorted(events.items()) if times]}


def summary(state: State) -> str:
    """Return a short name for a state."""
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:12]


def difference(one: State, other: State) -> str:
    """Return the differences of two states in words."""
    for name in sorted(one.keys() | other.keys()):
        mine, theirs = one.get(name), other.get(name)
        if mine != theirs and isinstance(mine, list) and isinstance(theirs, list):
            return f"{name}: {_but(mine, theirs)} instead of {_but(theirs, mine)}"
        if mine != theirs:
            return f"{name}: {mine} instead of {theirs}"
    return "nothing"


def _but(rows: list[Any], others: list[Any]) -> str:
    left = [row for row in rows if row not in others]
    return f"{left[:2]} of {len(rows)} rows"


def _files(home: Home) -> dict[str, Any]:
    """Return settings, mails and backups, each read completely; a damaged or readable one is an error."""
    return {
        "settings": home.config.read_text(encoding="utf-8") if home.config.exists() else "",
        "mails": [_message_id(file) for file in sorted(home.maildir.glob("new/*"))],
        "keys": len([*home.keys.glob("*.pem")]),
        "backups": len([_whole(file) for file in home.backups.glob("*.zip")]),
        "open to others": [
            file.name for file in home.root.rglob("*") if file.is_file() and stat.S_IMODE(file.stat().st_mode) & 0o077
        ],
    }


def _message_id(file: Path) -> str:
    mail = message_from_bytes(file.read_bytes())
    if not mail.is_multipart() or mail.defects:
        raise ValueError(f"{file.name} is no whole mail")
    return str(mail["Message-ID"])


def _whole(file: Path) -> str:
    with zipfile.ZipFile(file) as archive:
        if archive.testzip() is not None:
            raise ValueError(f"{file.name} is no whole backup")
    return file.name
