"""Messages about hooks: list, run, try and retry them. ``daemon/hook_loop.py`` sends ``RunHooks``."""

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from popug_cli.bus import hook_cursors
from popug_cli.bus.context import Context
from popug_cli.bus.queries import document, show_event
from popug_cli.hooks import files
from popug_cli.hooks.environment import environment, lease_duration
from popug_cli.hooks.files import HookFile
from popug_cli.hooks.process import run_hook
from popug_cli.hooks.sample_event import make_sample_event
from popug_cli.kernel.clock import from_rfc3339
from popug_cli.kernel.errors import Conflict, InvalidInput, NotFound
from popug_cli.kernel.home import Home
from popug_cli.messages.bus import EnvelopeDocument, ShowEvent
from popug_cli.messages.hooks import (
    Hook,
    HookRunResult,
    Hooks,
    HooksRetried,
    ListHooks,
    RetryHook,
    RunHooks,
    TryHook,
    TryHookResult,
)
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def run_hooks(backend: "LocalBackend", message: RunHooks, principal: Principal) -> HookRunResult:
    """Run each hook for its due events, one after another; different hooks run in parallel."""
    from popug_cli.hooks.runner import HookRunner

    hook_files = files.find(backend.home)
    sync_hooks(backend, principal, hook_files)
    with backend.runtime.reading(principal) as context:
        lease = lease_duration(context.settings)
        known = len(hook_cursors.cursors(context))
        ready = [file for file in hook_files if not file.problem]
        if not any(hook_cursors.is_due(context, file.name, file.types, lease) for file in ready):
            return HookRunResult(known, 0, 0, 0)
    runner = HookRunner(backend.runtime, backend.home, backend.warn, principal, message.seconds)
    runner.run_due_hooks(ready)
    return HookRunResult(known, runner.done, runner.failed, runner.dead)


def sync_hooks(backend: "LocalBackend", principal: Principal, files: list[HookFile]) -> None:
    """Synchronize the stored cursors with the hook files: add new hooks, delete those missing for long."""
    changed_at = {file.name: file.changed_at for file in files if file.types != () and not file.is_off}
    with backend.runtime.reading(principal) as context:
        if not hook_cursors.needs_sync(context, changed_at):
            return
    with backend.runtime.writing(principal) as context:
        hook_cursors.sync(context, changed_at)


def list_hooks(backend: "LocalBackend", message: ListHooks, principal: Principal) -> Hooks:
    """Return the files in ``hooks/``, each with its problem or its position."""
    hook_files = files.find(backend.home)
    with backend.runtime.reading(principal) as context:
        known = hook_cursors.cursors(context)
        listed = [_hook(context, file, known.get(file.name)) for file in hook_files]
    return Hooks(str(backend.home.hooks), listed)


def _hook(context: Context, file: HookFile, cursor: hook_cursors.HookCursor | None) -> Hook:
    start = cursor.position if cursor else hook_cursors.position_before(context, file.changed_at)
    dead, queued, letter_error = hook_cursors.dead_letters_of(context, file.name)
    waiting = hook_cursors.count_pending(context, start, file.types) + queued if file.types != () else 0
    return Hook(
        name=file.name,
        event=file.event,
        state=_state(context, file, cursor),
        problem=file.problem,
        position=cursor.position if cursor else None,
        waiting=waiting,
        attempts=cursor.attempts if cursor else 0,
        dead=dead,
        next_try_at=_instant(cursor.due_at) if cursor else None,
        last_run_at=_instant(cursor.last_run_at) if cursor else None,
        last_error=(cursor.last_error if cursor else None) or letter_error,
    )


def _state(context: Context, file: HookFile, cursor: hook_cursors.HookCursor | None) -> str:
    if file.problem:
        return "refused"
    if cursor and hook_cursors.is_leased(cursor, context.now, lease_duration(context.settings)):
        return "running"
    return "retrying" if cursor and cursor.due_at else "ready"


def _instant(text: str | None) -> datetime | None:
    return from_rfc3339(text) if text else None


def try_hook(backend: "LocalBackend", message: TryHook, principal: Principal) -> TryHookResult:
    """Run a hook once, for any event; its cursor does not change. Raise ``hook_not_found`` or ``hook_refused``."""
    file = _named(backend.home, message.name)
    if file.problem:
        raise Conflict(
            "hook_refused",
            f"{file.name} is not run: {file.problem}.",
            hint="`popug hooks list` shows the problem of each hook.",
            details={"hook": file.name, "problem": file.problem},
        )
    with backend.runtime.reading(principal) as context:
        event, is_sample = _event_for(file, message.event_id, context)
        settings = context.settings
    timeout_seconds = settings.number("hooks.timeout_seconds")

    def on_poll() -> None:
        backend.runtime.progress(f"Running {file.name}", 0, 1)

    result = run_hook(
        file.path,
        msgspec.json.encode(event),
        environment(backend.home, event),
        timeout_seconds=timeout_seconds,
        on_poll=on_poll,
    )
    return TryHookResult(result.exit_status, result.output, event, is_sample)


def retry_hook(backend: "LocalBackend", message: RetryHook, principal: Principal) -> HooksRetried:
    """Queue the dead letters of a hook again, and make its pending retry due; raise ``hook_not_found``."""
    file = _named(backend.home, message.name)
    with backend.runtime.writing(principal) as context:
        return HooksRetried(hook_cursors.requeue_dead_letters(context, file.name))


def _named(home: Home, name: str) -> HookFile:
    """Return the hook with that name; raise ``hook_not_found``."""
    hook_files = {file.name: file for file in files.find(home)}
    if name in hook_files:
        return hook_files[name]
    folder = home.hooks
    hint = (
        f"There are {', '.join(hook_files)}."
        if hook_files
        else f"Put an executable called any or task_assigned into {folder}."
    )
    raise NotFound("hook_not_found", f"There is no hook {name!r} in {folder}.", hint=hint, details={"hook": name})


def _event_for(file: HookFile, event_id: str | None, context: Context) -> tuple[EnvelopeDocument, bool]:
    if event_id is not None:
        event = show_event(ShowEvent(event_id=event_id), context)
        if file.types is not None and event.get("type") not in file.types:
            raise InvalidInput(
                "usage",
                f"{file.name} does not receive {event.get('type')}.",
                hint=f"Name an event from `popug events list --type {file.event}`, or none.",
            )
        return event, False
    row = hook_cursors.last_event(context, file.types)
    if row is None:
        assert file.types
        return make_sample_event(file.types[-1], context.now), True
    return document(*row), False
