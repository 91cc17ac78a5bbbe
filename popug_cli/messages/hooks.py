"""What is asked of the hooks and told to them: programs of the operator that hear of events."""

from datetime import datetime

import msgspec

from popug_cli.messages.base import Access, Command, Query, declare
from popug_cli.messages.bus import EnvelopeDocument


class Hook(msgspec.Struct, frozen=True):
    """A file in ``hooks/`` of the home, and where it stands.

    ``state`` is ``ready``, ``running``, ``retrying`` (at ``next_try_at``), or ``refused`` because of ``problem``.
    ``position`` is the place in the log up to which it is done; ``waiting`` events come after it, ``dead`` ones were
    set aside after ``attempts`` tries. ``event`` is its name's first word, ``any`` for every event.
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
    """The hooks of a home, by name; ``folder`` is where they lie."""

    folder: str
    hooks: list[Hook]


class TryHookResult(msgspec.Struct, frozen=True):
    """How one run of a hook went: its exit status (124: it took too long, 126: it could not be started), what it wrote.

    ``is_sample`` where the event was made up, because none of its kind has happened yet.
    """

    exit: int
    output: str
    event: EnvelopeDocument
    is_sample: bool


class HookRunResult(msgspec.Struct, frozen=True):
    """What one look after the hooks came to: runs that went well, that failed, and events that were set aside.

    ``hooks`` counts those that the database knows of.
    """

    hooks: int
    done: int
    failed: int
    dead: int


class HooksRetried(msgspec.Struct, frozen=True):
    """How many events will be given to the hook once more."""

    queued: int


@declare("hooks list", access=Access.OPERATOR)
class ListHooks(Query[Hooks], frozen=True):
    """Ask which hooks there are and where each stands."""


@declare("hooks test", access=Access.OPERATOR)
class TryHook(Query[TryHookResult], frozen=True, kw_only=True):
    """Run a hook once, now, with an event of the log (the last of its kind where none is named) or a sample."""

    name: str
    event_id: str | None = None


@declare("hooks retry", access=Access.OPERATOR)
class RetryHook(Command[HooksRetried], frozen=True, kw_only=True):
    """Have the events that were set aside given to a hook once more, by whoever runs the hooks."""

    name: str


@declare("scheduler", access=Access.OPERATOR)
class RunHooks(Command[HookRunResult], frozen=True, kw_only=True):
    """Give the hooks the events that they have not had yet; nothing new is begun after ``seconds``."""

    seconds: int = 60
