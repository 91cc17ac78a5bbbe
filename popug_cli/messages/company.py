"""What concerns the whole company: answers made of several modules', its settings, its health, its permissions."""

from datetime import date, datetime

import msgspec

from popug_cli.messages.base import ACCOUNTING, EVERYONE, Access, Command, Query, Role, declare
from popug_cli.messages.billing import Entry
from popug_cli.messages.tasks import Task


class HistoryLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that happened to a task; people are usernames."""

    at: datetime
    event: str
    actor: str
    event_id: str
    assignee: str | None = None
    previous_assignee: str | None = None
    reason: str | None = None
    shuffle_id: str | None = None
    fee_cents: int | None = None
    reward_cents: int | None = None


class TaskDetails(msgspec.Struct, frozen=True):
    """A task, what happened to it, and of its entries those that one may see."""

    task: Task
    history: list[HistoryLine]
    entries: list[Entry]


class SettingLine(msgspec.Struct, frozen=True):
    """A setting, its value and where that comes from."""

    key: str
    value: str | int | bool
    source: str
    help: str


class SettingList(msgspec.Struct, frozen=True):
    """All settings by key, and what was decided at init."""

    home: str
    time_zone: str
    settings: list[SettingLine]


class Check(msgspec.Struct, frozen=True):
    """One invariant and whether it holds."""

    name: str
    ok: bool
    detail: str


class Health(msgspec.Struct, frozen=True):
    """All invariants; ``head`` is the head of the log's hash chain."""

    ok: bool
    checks: list[Check]
    head: str = ""


class LedgerProof(msgspec.Struct, frozen=True):
    """Whether the ledger can be believed: the head of the log's hash chain, and the first thing that is wrong."""

    ok: bool
    head: str
    entries: int
    first_wrong: str | None


class ExplanationNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a figure, an entry or an event is as it is; ``recorded_at`` only where that is not when it occurred."""

    what: str
    because: "list[ExplanationNode]"
    amount_cents: int | None = None
    entry_id: str | None = None
    event_id: str | None = None
    rule: str | None = None
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None


class Explanation(msgspec.Struct, frozen=True):
    """A figure and what it is made of: the amounts of ``because`` add up to it."""

    figure_cents: int
    because: list[ExplanationNode]


class Backup(msgspec.Struct, frozen=True):
    """A backup that was verified: one file, and how large it is."""

    path: str
    bytes: int


class RestoreResult(msgspec.Struct, frozen=True):
    """The home that was restored, and where the one that it replaced is kept."""

    path: str
    replaced: str | None


class PermissionLine(msgspec.Struct, frozen=True):
    """Who may send a message; ``others`` are the roles that may name somebody else in it, if it names anybody."""

    message: str
    command: str
    access: Access
    roles: list[Role]
    others: list[Role]
    scopes: list[str]


class Permissions(msgspec.Struct, frozen=True):
    """Who may send which message."""

    permissions: list[PermissionLine]


@declare("task show", roles=EVERYONE)
class ShowTask(Query[TaskDetails], frozen=True, kw_only=True):
    """Ask for a task with its history and entries."""

    number: int


@declare("config show", access=Access.OPERATOR)
class ShowSettings(Query[SettingList], frozen=True):
    """Ask for the settings."""


@declare("config set", access=Access.OPERATOR)
class SetSetting(Command[SettingList], frozen=True, kw_only=True):
    """Write a setting into the home's file."""

    key: str
    value: str


@declare("doctor", access=Access.OPERATOR)
class CheckHealth(Query[Health], frozen=True):
    """Check every invariant."""


@declare("ledger verify", access=Access.OPERATOR)
class VerifyLedger(Query[LedgerProof], frozen=True, kw_only=True):
    """Prove the log, the ledger and every draw; with a head that was kept, that it is part of this history."""

    head: str | None = None


@declare("explain balance", roles=EVERYONE, roles_for_others=ACCOUNTING)
class ExplainBalance(Query[Explanation], frozen=True, kw_only=True):
    """Ask why a balance is what it is, one's own where nobody is named."""

    username: str | None = None


@declare("explain income", roles=ACCOUNTING)
class ExplainIncome(Query[Explanation], frozen=True, kw_only=True):
    """Ask why management's income of a date is what it is, today's by default."""

    day: date | None = None


@declare("explain task", roles=EVERYONE)
class ExplainTask(Query[Explanation], frozen=True, kw_only=True):
    """Ask what a task did to the balances that one may see, and why."""

    number: int


@declare("backup", access=Access.OPERATOR)
class BackUp(Command[Backup], frozen=True, kw_only=True):
    """Copy database and settings, but no keys, into one new file; into the home's backups where none is named."""

    path: str | None = None


@declare("restore", access=Access.OPERATOR)
class Restore(Command[RestoreResult], frozen=True, kw_only=True):
    """Put the company of a backup in the place of the home's, which is kept beside it."""

    path: str


@declare("permissions", access=Access.PUBLIC)
class ShowPermissions(Query[Permissions], frozen=True):
    """Ask who may do what."""
