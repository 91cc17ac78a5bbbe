"""The end state of five homes or of one, in words that hold in every run of the same commands.

It contains the module tables and what each publisher published. It leaves out positions, times of recording, and ids
that no command made: those of entries, mails and the events of consumers. An entry is named by its kind, its date and
its cause, and the cause by its type, its subject and the command's event that caused it.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

from tests.simulation.compare import COLUMNS, State

Rows = Callable[[str], list[tuple[Any, ...]]]
UNCOMPARED_FIELDS = frozenset({"candidates_as_of", "log_head", "mail_id", "message_id", "entry_id"})
PUBLISHERS = ("identity", "tasks", "billing", "analytics", "mail")
DAYS_ENDED = [table for table in COLUMNS if table.endswith("_ended_days")]
SELECT_ENTRIES = (
    "SELECT entry_id, kind, employee_id, business_date, corrects, event_id FROM billing_entries ORDER BY position"
)


def module_tables(rows_of: Callable[[str], Rows]) -> State:
    """Return the rows of all modules' tables, each from the home that ``rows_of`` a module names, sorted by table."""
    state: State = {}
    for table, columns in COLUMNS.items():
        module = table.partition("_")[0]
        if module != "bus":
            state[table] = rows_of(module)(f"SELECT {columns} FROM {table}")
    for table in DAYS_ENDED:  # one process ends each day of a close by itself
        state[table] = sorted(state[table], key=repr)[-1:]
    names = names_of_entries(rows_of("billing"))
    state["billing_entries"] = [(names[entry_id], *entry) for entry_id, *entry in state["billing_entries"]]
    return {table: sorted(rows, key=repr) for table, rows in state.items()}


def names_of_entries(rows: Rows) -> dict[str, str]:
    """Return a name of each entry of a ledger by its id."""
    causes = {
        event_id: f"{type_} {subject} {json.loads(envelope).get('causationid')}"
        for event_id, type_, subject, envelope in rows("SELECT id, type, subject, envelope FROM bus_log")
    }
    names: dict[str, str] = {}
    for entry_id, kind, employee_id, date, corrects, event_id in rows(SELECT_ENTRIES):
        cause = names[corrects] if corrects else causes.get(event_id)
        names[entry_id] = f"{kind} {employee_id} {date} of ({cause})"
    return names


def published(envelopes: Iterable[str], entries: dict[str, str]) -> list[tuple[Any, ...]]:
    """Return name, subject and data of events, sorted; ``entries`` are the names of the ledger's entries."""
    found = []
    for envelope in envelopes:
        event = json.loads(envelope)
        if event["type"].startswith("popug.tasks.day_ended."):  # one process ends each day of a close by itself
            continue
        subject = entries.get(event["subject"], event["subject"])
        data = _without(event["data"], entries)
        if "lines" in data:
            data["lines"] = sorted(data["lines"], key=repr)
        data["business date"] = event.get("businessdate")
        name = event["type"].rpartition(".v")[0]
        found.append((name, "" if name.startswith("popug.mail.") else subject, json.dumps(data, sort_keys=True)))
    return sorted(found)


def _without(value: Any, entries: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(part, entries) for name, part in value.items() if name not in UNCOMPARED_FIELDS}
    if isinstance(value, list):
        return [_without(part, entries) for part in value]
    return entries.get(value, value) if isinstance(value, str) else value
