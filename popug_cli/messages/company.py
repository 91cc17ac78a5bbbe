"""Messages about the whole company: results composed from several modules, settings, health, permissions."""

from datetime import date, datetime

import msgspec

from popug_cli.messages.base import ACCOUNTING, EVERYONE, Access, Command, Query, Role, declare
from popug_cli.messages.billing import Entry
from popug_cli.messages.tasks import HistoryLine, Task


class TaskDetails(msgspec.Struct, frozen=True):
    """A task, its history, and those of its entries that the sender may see."""

    task: Task
    history: list[HistoryLine]
    entries: list[Entry]


class SettingLine(msgspec.Struct, frozen=True):
    """A setting, its value and the source of the value."""

    key: str
    value: str | int | bool
    source: str
    help: str


class SettingList(msgspec.Struct, frozen=True):
    """All settings by key, and the decisions made at ``init``."""

    home: str
    time_zone: str
    settings: list[SettingLine]


class Check(msgspec.Struct, frozen=True):
    """One check of the doctor: its name, whether it passed, and the result in words.

    With ``attention``, the data is intact, but the operator has something to do.
    """

    name: str
    ok: bool
    detail: str
    attention: bool = False


class Health(msgspec.Struct, frozen=True):
    """The results of all checks; ``head`` is the head of the log's hash chain.

    ``ok`` means that no check failed, ``attention`` that a check needs attention.
    """

    ok: bool
    checks: list[Check]
    head: str = ""
    attention: bool = False


class LedgerProof(msgspec.Struct, frozen=True):
    """The result of ``ledger verify``: the hash chain's head, the number of entries, the first violation or None."""

    ok: bool
    head: str
    entries: int
    first_wrong: str | None


class ExplanationNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """The cause of a figure, an entry or an event; ``recorded_at`` is set only if it differs from ``occurred_at``."""

    what: str
    because: "list[ExplanationNode]"
    amount_cents: int | None = None
    entry_id: str | None = None
    event_id: str | None = None
    rule: str | None = None
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None


class Explanation(msgspec.Struct, frozen=True):
    """A figure and its parts: the amounts of ``because`` add up to it."""

    figure_cents: int
    because: list[ExplanationNode]


class Backup(msgspec.Struct, frozen=True):
    """A verified backup: its file and the file's size."""

    path: str
    bytes: int


class SettingDifference(msgspec.Struct, frozen=True):
    """A setting whose value in a backup is not that of the home; None means that a file does not set it.

    ``kept`` says whether the restored home keeps the value that the home had.
    """

    key: str
    home: str | int | bool | None
    backup: str | int | bool | None
    kept: bool


class RestoreResult(msgspec.Struct, frozen=True):
    """The restored home, the path of the home that it replaced, and the settings in which both differ."""

    path: str
    replaced: str | None
    settings: list[SettingDifference] = []


class DatabaseCopied(msgspec.Struct, frozen=True):
    """Where a company was copied to, how many events it has, and the head of its hash chain."""

    target: str
    events: int
    head: str


class DatabaseMigrated(msgspec.Struct, frozen=True):
    """The PostgreSQL database that was migrated, and the versions of its tables before (None if empty) and now."""

    database: str
    before: str | None
    version: str


class PermissionLine(msgspec.Struct, frozen=True):
    """The permissions of a message.

    ``others`` are the roles that may name another user in it, ``scopes`` those of limited tokens that may send it.
    """

    message: str
    command: str
    access: Access
    roles: list[Role]
    others: list[Role]
    scopes: list[str]


class Permissions(msgspec.Struct, frozen=True):
    """The permissions of all messages."""

    permissions: list[PermissionLine]


@declare("task show", roles=EVERYONE)
class ShowTask(Query[TaskDetails], frozen=True, kw_only=True):
    """Return a task with its history and entries."""

    number: int


@declare("config show", access=Access.OPERATOR)
class ShowSettings(Query[SettingList], frozen=True):
    """Return the settings."""


@declare("config set", access=Access.OPERATOR)
class SetSetting(Command[SettingList], frozen=True, kw_only=True):
    """Write a setting to the home's file."""

    key: str
    value: str


@declare("doctor", access=Access.OPERATOR)
class CheckHealth(Query[Health], frozen=True):
    """Run all checks: invariants, hash chain, draws, read models, schedule and keys."""


@declare("ledger verify", access=Access.OPERATOR)
class VerifyLedger(Query[LedgerProof], frozen=True, kw_only=True):
    """Verify the log, the ledger and every draw, and that a ``head`` noted earlier is part of this history."""

    head: str | None = None


@declare("explain balance", roles=EVERYONE, roles_for_others=ACCOUNTING, handler="billing.explain")
class ExplainBalance(Query[Explanation], frozen=True, kw_only=True):
    """Explain the balance of a user, by default the sender's own."""

    username: str | None = None


@declare("explain income", roles=ACCOUNTING, handler="billing.explain")
class ExplainIncome(Query[Explanation], frozen=True, kw_only=True):
    """Explain management's income of a date, today's by default."""

    day: date | None = None


@declare("explain task", roles=EVERYONE)
class ExplainTask(Query[Explanation], frozen=True, kw_only=True):
    """Explain the effects of a task on the balances that the sender may see."""

    number: int


@declare("backup", access=Access.OPERATOR)
class BackUp(Command[Backup], frozen=True, kw_only=True):
    """Copy database and settings, but no keys, into one new file, by default in ``backups/`` of the home."""

    path: str | None = None


@declare("restore", access=Access.OPERATOR)
class Restore(Command[RestoreResult], frozen=True, kw_only=True):
    """Replace the home's company with that of a backup; the old home is kept next to it.

    The home keeps its own mail settings, unless ``take_mail_settings``.
    """

    path: str
    take_mail_settings: bool = False


@declare("database copy", access=Access.OPERATOR)
class CopyDatabase(Command[DatabaseCopied], frozen=True, kw_only=True):
    """Copy the home's company into the empty database ``to``, or that of the database ``source`` into the home.

    Both are URLs of PostgreSQL; exactly one is given.
    """

    to: str | None = None
    source: str | None = None


@declare("database migrate", access=Access.OPERATOR)
class MigrateDatabase(Command[DatabaseMigrated], frozen=True, kw_only=True):
    """Create or upgrade the tables of the PostgreSQL database, and give ``role`` the rights that popug needs there."""

    role: str | None = None


@declare("permissions", access=Access.PUBLIC)
class ShowPermissions(Query[Permissions], frozen=True):
    """Return the permissions of all messages."""
