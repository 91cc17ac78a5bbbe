"""Messages of hooks: the operator's programs that receive events."""

from datetime import datetime

import msgspec

from popug_cli.messages.base import Access, Command, Query, declare
from popug_cli.messages.bus import EnvelopeDocument


class Hook(msgspec.Struct, frozen=True):
    """A file in ``hooks/`` of the home, and its state.

    ``state`` is ``ready``, ``running``, ``retrying`` (at ``next_try_at``), or ``refused`` because of ``problem``.
    ``position`` is the log position up to which it has received its events. ``waiting`` counts its later events and the
    dead letters that were queued again, ``dead`` the other dead letters, ``attempts`` the failed attempts of the next
    event. ``event`` is the part of ``name`` before the first dot; ``any`` means every event.
    """

    name: str
    event: str
    state: str
    problem: str
    position: int | None
    waiting: int
    attempts: int
    dead: int
    next_try_at: datetime | None
    last_run_at: datetime | None
    last_error: str | None


class Hooks(msgspec.Struct, frozen=True):
    """The hooks of a home, by name; ``folder`` is their directory."""

    folder: str
    hooks: list[Hook]


class TryHookResult(msgspec.Struct, frozen=True):
    """The result of one run of a hook: its exit status (124: timed out, 126: could not be started) and its output.

    ``is_sample`` if the event was made up, because the log has no event of its type.
    """

    exit: int
    output: str
    event: EnvelopeDocument
    is_sample: bool


class HookRunResult(msgspec.Struct, frozen=True):
    """The number of runs that succeeded (``done``) and that failed, and of events that became dead letters.

    ``hooks`` counts the hooks whose positions are stored.
    """

    hooks: int
    done: int
    failed: int
    dead: int


class HooksRetried(msgspec.Struct, frozen=True):
    """The number of events that were queued for the hook again."""

    queued: int


@declare("hooks list", access=Access.OPERATOR)
class ListHooks(Query[Hooks], frozen=True):
    """Return the hooks and their states."""


@declare("hooks test", access=Access.OPERATOR)
class TryHook(Query[TryHookResult], frozen=True, kw_only=True):
    """Run a hook once, now, with the given event, by default with the last one of its type or a sample."""

    name: str
    event_id: str | None = None


@declare("hooks retry", access=Access.OPERATOR)
class RetryHook(Command[HooksRetried], frozen=True, kw_only=True):
    """Queue the dead letters of a hook again; the process that runs the hooks will retry them."""

    name: str


@declare("scheduler", access=Access.OPERATOR)
class RunHooks(Command[HookRunResult], frozen=True, kw_only=True):
    """Run the hooks on new events, due retries and requeued dead letters; no run begins after ``seconds``."""

    seconds: int = 60
