"""Billing's command: correct an entry. A wrong entry is never changed or removed; another entry reverses it."""

from typing import NamedTuple

from popug_cli.billing.days import correction_date
from popug_cli.billing.ledger import NewEntry, post
from popug_cli.billing.queries import entry_of
from popug_cli.billing.rules import entry_not_found, reversal_of, validate_reason
from popug_cli.bus.context import Context
from popug_cli.kernel.stored_values import InvalidStoredValue, choice_of, from_iso_date
from popug_cli.messages.billing import CorrectEntry, Entry, EntryCorrected, EntryKind, EntryPosted


class WrongEntry(NamedTuple):
    """The entry to correct, as it is stored."""

    employee_id: str
    kind: str
    amount_cents: int
    business_date: str
    task_id: str | None
    is_corrected: int


SELECT_ENTRY = (
    "SELECT employee_id, kind, amount_cents, business_date, task_id, EXISTS (SELECT 1 FROM billing_entries later"
    " WHERE later.corrects = wrong.entry_id) AS is_corrected FROM billing_entries wrong WHERE entry_id = :entry_id"
)


def correct_entry(message: CorrectEntry, context: Context) -> Entry:
    """Post the reversal of an entry, dated by ``correction_date``.

    Raise ``invalid_reason``, ``entry_not_found`` or ``not_correctable``.
    """
    reason = validate_reason(message.reason)
    wrong = _find_entry(message.entry_id, context)
    kind = reversal_of(choice_of(EntryKind, wrong.kind), message.entry_id, is_corrected=bool(wrong.is_corrected))
    reversal = NewEntry(
        event_id=_posted_event_id(message.entry_id, wrong, context),
        employee_id=wrong.employee_id,
        kind=kind,
        amount_cents=wrong.amount_cents,
        business_date=correction_date(from_iso_date(wrong.business_date), context),
        occurred_at=context.now,
        task_id=wrong.task_id,
        corrects=message.entry_id,
    )
    (entry_id,) = post([reversal], context)
    context.events.publish(
        EntryCorrected(entry_id=entry_id, corrects=message.entry_id, user_id=wrong.employee_id, reason=reason)
    )
    return entry_of(entry_id, context)


def _find_entry(entry_id: str, context: Context) -> WrongEntry:
    row = context.connection.select_one(SELECT_ENTRY, entry_id=entry_id) if entry_id.isascii() else None
    if row is None:
        raise entry_not_found(entry_id)
    return WrongEntry._make(row)


def _posted_event_id(entry_id: str, wrong: WrongEntry, context: Context) -> str:
    """Return the id of the ``entry_posted`` event of an entry, which is the cause of the correction.

    Raise ``InvalidStoredValue`` if the log has none, which the doctor reports as well.
    """
    for event in context.log.by_subject(wrong.employee_id, EntryPosted, task_id=wrong.task_id):
        if isinstance(event.data, EntryPosted) and event.data.entry_id == entry_id:
            return event.id
    raise InvalidStoredValue(f"no entry_posted event for entry {entry_id}")
