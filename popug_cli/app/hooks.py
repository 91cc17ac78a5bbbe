"""The hooks of a home: what there are, a trial of one, and giving them their events."""

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from popug_cli.app import hook_files
from popug_cli.app.hook_files import HookFile
from popug_cli.app.hook_process import run_hook
from popug_cli.app.hook_sample import sample
from popug_cli.app.hook_terms import environment, lease_of
from popug_cli.bus import hooks
from popug_cli.bus.queries import document, show_event
from popug_cli.bus.runtime import Context
from popug_cli.kernel.clock import parse_stamp
from popug_cli.kernel.errors import Conflict, InvalidInput, NotFound
from popug_cli.kernel.home import Home
from popug_cli.messages.bus import EnvelopeDocument, ShowEvent
from popug_cli.messages.hooks import (
    Hook,
    HookRun,
    Hooks,
    HooksRetried,
    HookTrial,
    ListHooks,
    RetryHook,
    RunHooks,
    TryHook,
)
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local


def run_hooks(place: "Local", message: RunHooks, principal: Principal) -> HookRun:
    """Let each hook have what it has not had yet, one event after the other; the hooks side by side."""
    from popug_cli.app.hook_run import Desk

    files = hook_files.find(place.home)
    register(place, principal, files)
    with place.runtime.reading(principal) as context:
        lease = lease_of(context.settings)
        known = len(hooks.places(context))
        ready = [file for file in files if not file.problem]
        if not any(hooks.is_due(context, file.name, file.types, lease) for file in ready):
            return HookRun(known, 0, 0, 0)
    desk = Desk(place, principal, message.seconds)
    desk.work(ready)
    return HookRun(known, desk.done, desk.failed, desk.dead)


def register(place: "Local", principal: Principal, files: list[HookFile]) -> None:
    """Know the hooks that are there from now on, and in time no more those that are gone."""
    there = {file.name: file.changed_at for file in files if file.types != () and not file.is_off}
    with place.runtime.reading(principal) as context:
        if not hooks.has_changed(context, there):
            return
    with place.runtime.writing(principal) as context:
        hooks.keep_up(context, there)


def list_hooks(place: "Local", message: ListHooks, principal: Principal) -> Hooks:
    """Every file in ``hooks/``, with what keeps it from being run or how far it has come."""
    files = hook_files.find(place.home)
    with place.runtime.reading(principal) as context:
        known = hooks.places(context)
        found = [_hook(context, file, known.get(file.name)) for file in files]
    return Hooks(str(place.home.hooks), found)


def _hook(context: Context, file: HookFile, place: hooks.Place | None) -> Hook:
    start = place.position if place else hooks.position_before(context, file.changed_at)
    dead, queued, letter_error = hooks.letters_of(context, file.name)
    waiting = hooks.count_waiting(context, start, file.types) + queued if file.types != () else 0
    return Hook(
        name=file.name,
        event=file.event,
        state=_state(context, file, place),
        problem=file.problem,
        position=place.position if place else None,
        waiting=waiting,
        attempts=place.attempts if place else 0,
        dead=dead,
        next_try_at=_instant(place.due_at) if place else None,
        last_run_at=_instant(place.last_run_at) if place else None,
        last_error=(place.last_error if place else None) or letter_error,
    )


def _state(context: Context, file: HookFile, place: hooks.Place | None) -> str:
    if file.problem:
        return "refused"
    if place and hooks.is_leased(place, context.now, lease_of(context.settings)):
        return "running"
    return "retrying" if place and place.due_at else "ready"


def _instant(text: str | None) -> datetime | None:
    return parse_stamp(text) if text else None


def try_hook(place: "Local", message: TryHook, principal: Principal) -> HookTrial:
    """Run a hook once, whatever it has had; nothing is remembered of it. Raises ``hook_refused``."""
    file = _named(place.home, message.name)
    if file.problem:
        raise Conflict(
            "hook_refused",
            f"{file.name} is not run: {file.problem}.",
            hint="`popug hooks list` says what each hook lacks.",
            details={"hook": file.name, "problem": file.problem},
        )
    with place.runtime.reading(principal) as context:
        event, is_sample = _event_for(file, message.event_id, context)
        settings = context.settings
    seconds = settings.number("hooks.timeout_seconds")

    def step() -> None:
        place.runtime.progress(f"Running {file.name}", 0, 1)

    outcome = run_hook(
        file.path, msgspec.json.encode(event), environment(place.home, event), seconds=seconds, step=step
    )
    return HookTrial(outcome.exit, outcome.output, event, is_sample)


def retry_hook(place: "Local", message: RetryHook, principal: Principal) -> HooksRetried:
    """Put what a hook has set aside before it once more."""
    file = _named(place.home, message.name)
    with place.runtime.writing(principal) as context:
        return HooksRetried(hooks.queue_letters(context, file.name))


def _named(home: Home, name: str) -> HookFile:
    """The hook of a name; raises ``hook_not_found``."""
    found = {file.name: file for file in hook_files.find(home)}
    if name in found:
        return found[name]
    folder = home.hooks
    there = (
        f"There are {', '.join(found)}." if found else f"Put an executable called any or task_assigned into {folder}."
    )
    raise NotFound("hook_not_found", f"There is no hook {name!r} in {folder}.", hint=there, details={"hook": name})


def _event_for(file: HookFile, event_id: str | None, context: Context) -> tuple[EnvelopeDocument, bool]:
    if event_id is not None:
        event = show_event(ShowEvent(event_id=event_id), context)
        if file.types is not None and event.get("type") not in file.types:
            raise InvalidInput(
                "usage",
                f"{file.name} does not hear of {event.get('type')}.",
                hint=f"Name an event from `popug events list --type {file.event}`, or none.",
            )
        return event, False
    row = hooks.last_event(context, file.types)
    if row is None:
        assert file.types
        return sample(file.types[-1], context.now), True
    return document(*row), False
