"""A hook that fails, hangs or is leased by another runner, and the events that wait for it."""

import json
import threading
from datetime import UTC, datetime

import pytest

from popug_cli.app import LocalBackend
from popug_cli.app.workflows.hooks import sync_hooks
from popug_cli.bus import hook_cursors as places
from popug_cli.hooks.environment import lease_duration
from popug_cli.hooks.files import event_types_by_name, find
from popug_cli.hooks.runner import HookRunner
from popug_cli.hooks.sample_event import make_sample_event
from popug_cli.kernel.errors import InvalidInput, NotFound, Unavailable
from popug_cli.messages.base import EVENTS
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.envelope import decode
from popug_cli.messages.hooks import HookRunResult, RetryHook, RunHooks, TryHook
from popug_cli.messages.principal import SCHEDULER
from popug_cli.messages.tasks import AddTask
from tests.support.company import InProcess, SeededChance
from tests.support.hooks_company import (
    KEEP,
    add,
    company,
    find_hook,
    hook,
    is_gone,
    received,
    run_hooks,
    titles,
    wait_for,
)

__all__ = ["company"]


# --- failures -----------------------------------------------------------------------------------


def test_failure_is_retried_later_and_later_events_wait(company: InProcess) -> None:
    hook(company, "task_created", f'test -e "$POPUG_HOME/up" || {{ echo no chat; exit 3; }}; {KEEP}')
    add(company, "One", "Two")
    assert run_hooks(company) == HookRunResult(1, 0, 1, 0)
    assert run_hooks(company) == HookRunResult(1, 0, 0, 0)
    state = find_hook(company)
    assert (state.state, state.attempts, state.waiting, state.last_error) == ("retrying", 1, 2, "exit 3: no chat")
    assert any("failed and will be retried (exit 3: no chat)" in warning for warning in company.warnings)
    company.clock.advance(seconds=11)
    assert run_hooks(company).failed == 1
    (company.root / "up").touch()
    company.clock.advance(seconds=11)
    assert run_hooks(company).done == 0
    company.clock.advance(seconds=10)
    assert run_hooks(company).done == 2
    assert titles(company) == ["One", "Two"]
    assert (find_hook(company).state, find_hook(company).last_error) == ("ready", None)


def test_failing_event_is_a_dead_letter_and_retried_on_request(company: InProcess) -> None:
    poison = 'event=$(cat); case $event in *Poison*) test -e cure || exit 1;; esac; echo "$event" >> got.jsonl'
    hook(company, "task_created", poison)
    add(company, "Poison", "Fine")
    for _ in range(5):
        run_hooks(company)
        company.clock.advance(hours=1)
    assert titles(company) == ["Fine"]
    state = find_hook(company)
    assert (state.state, state.dead, state.waiting, state.last_error) == ("ready", 1, 0, "exit 1")
    assert "failed; the event is a dead letter" in company.warnings[-1]
    assert company.backend.perform(RetryHook(name="task_created")).queued == 1
    assert find_hook(company).waiting == 1
    assert run_hooks(company) == HookRunResult(1, 0, 1, 1)
    (company.root / "cure").touch()
    company.backend.perform(RetryHook(name="task_created"))
    assert run_hooks(company).done == 1
    assert titles(company) == ["Fine", "Poison"]
    assert find_hook(company).dead == 0


def test_failing_hook_does_not_delay_others(company: InProcess) -> None:
    hook(company, "task_created.a", "exit 1")
    hook(company, "task_created.b", KEEP)
    add(company, "One", "Two")
    assert run_hooks(company) == HookRunResult(2, 2, 1, 0)
    assert titles(company) == ["One", "Two"]


def test_slow_hook_is_killed_with_its_child_processes(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_HOOKS_TIMEOUT_SECONDS", "1")
    company.backend.close()
    hook(company, "task_created", 'sleep 1000 & echo $! > "$POPUG_HOME/child"; wait')
    add(company, "One")
    assert run_hooks(company).failed == 1
    assert find_hook(company).last_error == "it took longer than 1 s"
    assert is_gone(company.root / "child")


def test_child_processes_of_a_hook_end_with_it(company: InProcess) -> None:
    hook(company, "task_created", 'sleep 1000 & echo $! > "$POPUG_HOME/child"; echo done')
    add(company, "One")
    assert run_hooks(company).done == 1
    assert is_gone(company.root / "child")


@pytest.mark.parametrize(
    ("script", "exit_status", "output"),
    [
        ("echo out; echo err >&2; exit 7", 7, "out\nerr\n"),
        ("kill -9 $$", 137, ""),
        ("exec >&- 2>&-; sleep 0.1; exit 4", 4, ""),
        ("head -c 100000 /dev/zero | tr '\\0' x; echo end", 0, "x" * (16 * 1024 - 4) + "end\n"),
        (r"printf 'a\000\377b'", 0, "a\ufffd\ufffdb"),
    ],
)
def test_try_reports_exit_and_output(company: InProcess, script: str, exit_status: int, output: str) -> None:
    hook(company, "any", script)
    trial = company.backend.perform(TryHook(name="any"))
    assert (trial.exit, trial.output, trial.is_sample) == (exit_status, output, False)
    assert company.rows("SELECT * FROM bus_hooks") == []


def test_hook_that_cannot_start_has_an_error(company: InProcess) -> None:
    path = hook(company, "any", "")
    path.write_text("no shebang")
    trial = company.backend.perform(TryHook(name="any"))
    assert (trial.exit, "#!/bin/sh" in trial.output) == (126, True)


def test_try_uses_named_event_or_last_one_or_a_sample(company: InProcess) -> None:
    hook(company, "task_created", "cat")
    trial = company.backend.perform(TryHook(name="task_created"))
    assert (trial.is_sample, json.loads(trial.output)) == (True, trial.event)
    add(company, "One", "Two")
    trial = company.backend.perform(TryHook(name="task_created"))
    assert (trial.is_sample, trial.event["data"]["title"]) == (False, "Two")
    (first, *_) = company.rows("SELECT id FROM bus_log WHERE type LIKE '%.task_created.%' ORDER BY sequence")
    trial = company.backend.perform(TryHook(name="task_created", event_id=first["id"]))
    assert trial.event["data"]["title"] == "One"
    (other,) = company.rows("SELECT id FROM bus_log WHERE sequence = 1")
    with pytest.raises(InvalidInput, match="does not receive"):
        company.backend.perform(TryHook(name="task_created", event_id=other["id"]))
    for name in ("nobody", "../popug.db"):
        with pytest.raises(NotFound, match="There is no hook"):
            company.backend.perform(TryHook(name=name))


@pytest.mark.parametrize("event_type", EVENTS)
def test_sample_fits_its_schema(event_type: str) -> None:
    now = datetime.now(UTC)
    assert decode(1, event_type, json.dumps(make_sample_event(event_type, now))).time == now
    assert any(event_type in types for types in event_types_by_name().values())


# --- leases -------------------------------------------------------------------------------------


def test_leased_event_is_left_alone_until_lease_expires(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    add(company, "One")
    sync_hooks(company.backend, SCHEDULER, find(company.backend.home))
    (file,) = find(company.backend.home)
    with company.backend.runtime.writing(SCHEDULER) as context:
        lease = lease_duration(context.settings)
        lost = places.lease_next(context, "task_created", file.types, lease)
        assert lost is not None
        assert places.lease_next(context, "task_created", file.types, lease) is None
    assert (run_hooks(company).done, find_hook(company).state) == (0, "running")
    company.clock.advance(seconds=46)
    assert run_hooks(company).done == 1
    with company.backend.runtime.writing(SCHEDULER) as context:
        assert not places.mark_failed(context, lost, "too late")
        places.mark_done(context, lost)
    assert (find_hook(company).attempts, find_hook(company).last_error) == (0, None)


def test_lease_is_void_after_clock_set_back(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    add(company, "One")
    sync_hooks(company.backend, SCHEDULER, find(company.backend.home))
    (file,) = find(company.backend.home)
    with company.backend.runtime.writing(SCHEDULER) as context:
        assert places.lease_next(context, "task_created", file.types, lease_duration(context.settings))
    company.clock.advance(days=-2)
    assert run_hooks(company).done == 1


def test_two_runners_run_each_event_once_in_order(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    add(company, *(f"Task {number}" for number in range(12)))
    runs: list[HookRunResult] = []

    def another() -> None:
        backend = LocalBackend(company.backend.home, clock=company.clock, randomness=SeededChance(3))
        runs.append(backend.perform(RunHooks(), actor=SCHEDULER))
        backend.close()

    threads = [threading.Thread(target=another) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(run.done for run in runs) == 12
    assert titles(company) == [f"Task {number}" for number in range(12)]


def test_command_waits_for_no_hook_and_runner_holds_no_lock(company: InProcess) -> None:
    hook(company, "task_created", 'touch "$POPUG_HOME/begun"; while ! test -e "$POPUG_HOME/go"; do sleep 0.02; done')
    add(company, "One")
    thread = threading.Thread(target=run_hooks, args=(company,))
    thread.start()
    wait_for(company.root / "begun")
    other = LocalBackend(company.backend.home, clock=company.clock, randomness=SeededChance(4))
    other.perform_as(company.people["boss"], AddTask(title="Meanwhile"))
    other.close()
    assert thread.is_alive()
    (company.root / "go").touch()
    thread.join()
    assert find_hook(company).waiting == 0


def test_no_event_is_started_after_the_time_limit(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    add(company, "One")
    assert run_hooks(company, seconds=0) == HookRunResult(1, 0, 0, 0)
    assert find_hook(company).waiting == 1
    runner = HookRunner(company.backend.runtime, company.backend.home, company.backend.warn, SCHEDULER, 60)
    runner.began_at -= 61
    runner.run_due_hooks(find(company.backend.home))
    assert received(company) == []


def test_failure_to_start_any_program_counts_no_attempt(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    hook(company, "task_created", KEEP)
    add(company, "One")
    with monkeypatch.context() as patch:
        patch.setattr("popug_cli.hooks.process.unnamed_file", full)
        with pytest.raises(Unavailable, match="No space left"):
            run_hooks(company)
    assert (find_hook(company).attempts, find_hook(company).state) == (0, "ready")
    assert run_hooks(company).done == 1


def test_doctor_passes_with_hooks_and_dead_letters(company: InProcess) -> None:
    def wrong() -> list[str]:
        return [check.name for check in company.backend.perform(CheckHealth()).checks if not check.ok]

    before = wrong()
    hook(company, "task_created", "exit 1")
    add(company, "One")
    for _ in range(5):
        run_hooks(company)
        company.clock.advance(hours=1)
    assert find_hook(company).dead == 1
    assert wrong() == before
