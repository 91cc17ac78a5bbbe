"""Hooks: the operator's own programs are given events at least once, in order, outside any transaction."""

import json
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from popug_cli.app import Local
from popug_cli.app.hook_files import events, find
from popug_cli.app.hook_run import Desk
from popug_cli.app.hook_sample import sample
from popug_cli.app.hook_terms import lease_of
from popug_cli.app.hooks import register
from popug_cli.bus import hooks as places
from popug_cli.kernel.errors import Conflict, InvalidInput, NotFound, Unavailable
from popug_cli.messages.base import EVENTS
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.envelope import decode
from popug_cli.messages.hooks import HookRun, ListHooks, RetryHook, RunHooks, TryHook
from popug_cli.messages.principal import SCHEDULER
from popug_cli.messages.tasks import AddTask
from tests.integration.hooks_support import (
    KEEP,
    add,
    company_with_hooks,
    got,
    hook,
    is_gone,
    listed,
    look,
    titles,
    wait_for,
)
from tests.integration.support import InProcess, SeededChance


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    return company_with_hooks(tmp_path / "home", monkeypatch)


# --- what is given ------------------------------------------------------------------------------


def test_a_hook_gets_each_event_of_its_name_once_as_cloudevents_in_the_order_of_the_log(company: InProcess) -> None:
    hook(company, "task_created.sh", KEEP)
    add(company, "One", "Two", "Three")
    assert look(company) == HookRun(hooks=1, done=3, failed=0, dead=0)
    assert titles(company) == ["One", "Two", "Three"]
    (logged,) = company.rows(
        "SELECT envelope FROM bus_log WHERE type LIKE '%.task_created.%' ORDER BY sequence LIMIT 1"
    )
    assert got(company)[0] == json.loads(logged["envelope"])
    assert got(company)[0]["specversion"] == "1.0"
    assert look(company) == HookRun(1, 0, 0, 0)
    assert len(got(company)) == 3


def test_any_gets_every_event_beside_hooks_of_one_kind(company: InProcess) -> None:
    hook(company, "any", KEEP)
    hook(company, "task_priced.1", 'echo "$POPUG_EVENT" >> "$POPUG_HOME/first"')
    hook(company, "task_priced.2", 'echo "$POPUG_EVENT_TYPE" >> "$POPUG_HOME/second"')
    head = company.place.runtime
    with head.reading(SCHEDULER) as context:
        before = context.position
    add(company, "One")
    look(company)
    sequences = [int(event["sequence"]) for event in got(company)]
    assert sequences == list(range(before + 1, before + 1 + len(sequences)))
    assert {"task_created", "task_assigned", "task_priced", "entry_posted"} <= {
        event["type"].split(".")[2] for event in got(company)
    }
    assert (company.root / "first").read_text() == "task_priced\n"
    assert (company.root / "second").read_text() == "popug.billing.task_priced.v1\n"


def test_a_hook_begins_with_what_happens_after_it_was_put_there(company: InProcess) -> None:
    add(company, "Before")
    company.clock.instant = datetime.now(UTC)
    time.sleep(0.01)
    hook(company, "task_created", KEEP)
    assert listed(company).waiting == 0
    add(company, "After, before anybody looked")
    assert listed(company).waiting == 1
    look(company)
    add(company, "Later")
    look(company)
    assert titles(company) == ["After, before anybody looked", "Later"]


def test_a_hook_that_comes_while_the_clock_is_set_back_begins_at_the_end_of_the_log(company: InProcess) -> None:
    company.clock.advance(days=-30)
    add(company, "Before")
    hook(company, "task_created", KEEP)
    look(company)
    add(company, "After")
    look(company)
    assert titles(company) == ["After"]


def test_what_a_hook_missed_while_nobody_ran_it_waits_for_it(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    look(company)
    add(company, "On Friday")
    company.clock.advance(days=3)
    add(company, "On Monday")
    look(company)
    assert titles(company) == ["On Friday", "On Monday"]


def test_a_hook_that_is_gone_for_a_moment_goes_on_and_one_that_is_gone_for_long_begins_anew(company: InProcess) -> None:
    path = hook(company, "task_created", KEEP)
    look(company)
    path.rename(company.root / "aside")
    add(company, "While it was edited")
    look(company)
    (company.root / "aside").rename(path)
    look(company)
    assert titles(company) == ["While it was edited"]
    path.chmod(0o644)
    look(company)
    add(company, "While it was off")
    company.clock.advance(minutes=11)
    look(company)
    assert company.rows("SELECT * FROM bus_hooks") == []
    company.clock.instant = max(company.clock.instant, datetime.now(UTC))
    with company.place.runtime.writing(SCHEDULER) as context:
        places.keep_up(context, {"task_created": company.clock.now()})
    path.chmod(0o755)
    company.clock.advance(minutes=1)
    add(company, "On again")
    look(company)
    assert titles(company) == ["While it was edited", "On again"]


def test_a_place_far_behind_follows_the_log_where_nothing_is_for_the_hook(
    company: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "IDLE_EVENTS", 3)
    hook(company, "day_closed", KEEP)
    look(company)
    add(company, "One")
    assert look(company).done == 0
    (row,) = company.rows("SELECT position, (SELECT max(sequence) FROM bus_log) AS head FROM bus_hooks")
    assert row["position"] == row["head"]


def test_the_environment_is_small_and_without_a_token(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET", "secret")
    hook(company, "task_created", "env; pwd")
    add(company, "One")
    trial = company.place.perform(TryHook(name="task_created"))
    assert "secret" not in trial.output
    names = {line.partition("=")[0] for line in trial.output.splitlines() if "=" in line}
    assert {"PATH", "POPUG_HOME", "POPUG_EVENT", "POPUG_EVENT_TYPE", "POPUG_EVENT_ID"} <= names
    assert trial.output.splitlines()[-1] == str(company.root)


def test_an_event_longer_than_a_pipe_and_a_hook_that_does_not_read_are_no_trouble(company: InProcess) -> None:
    hook(company, "any", "true")
    hook(company, "any.count", 'wc -c >> "$POPUG_HOME/sizes"')
    envelope = {"specversion": "1.0", "id": "big", "type": "popug.odd.big.v1", "subject": "x", "data": "y" * 300_000}
    with company.place.runtime.writing(SCHEDULER) as context:
        context.connection.exec_driver_sql(
            "INSERT INTO bus_log (envelope) VALUES (?)", (json.dumps(envelope | {"time": "2999-01-01T00:00:00Z"}),)
        )
    assert look(company).failed == 0
    assert int((company.root / "sizes").read_text().split()[-1]) > 300_000


# --- which files are run ------------------------------------------------------------------------


def test_only_safe_files_are_run_and_the_others_say_what_they_lack(company: InProcess) -> None:
    folder = company.root / "hooks"
    hook(company, "any.group", KEEP, 0o775)
    hook(company, "any.others", KEEP, 0o757)
    hook(company, "any.off", KEEP, 0o644)
    hook(company, "task-asigned", KEEP)
    hook(company, ".hidden", KEEP)
    hook(company, "README", "Not a program.", 0o644)
    hook(company, "any~", KEEP)
    (folder / "any.link").symlink_to(hook(company, "payout_made", KEEP))
    (folder / "any.d").mkdir()
    company.clock.advance(minutes=1)
    add(company, "One")
    assert look(company).done == 0
    assert got(company) == []
    problems = {file.name: file.problem for file in find(company.place.home)}
    assert problems.pop("payout_made") == ""
    lacks = {"any.group": "chmod go-w", "any.others": "chmod go-w", "any.off": "chmod u+x", "any.link": "regular"}
    assert problems.keys() == lacks.keys() | {"task-asigned"}
    assert all(word in problems[name] for name, word in lacks.items())
    assert problems["task-asigned"].endswith("(did you mean task_assigned?)")
    assert listed(company, "any.group").state == "refused"
    with pytest.raises(Conflict, match="others may write"):
        company.place.perform(TryHook(name="any.group"))


def test_no_hook_of_a_folder_that_others_may_write_to_is_run(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    (company.root / "hooks").chmod(0o777)
    add(company, "One")
    assert look(company).done == 0
    assert "others may write to" in listed(company).problem
    (company.root / "hooks").chmod(0o755)
    assert look(company).done == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_no_file_of_somebody_else_is_run_and_no_hook_in_somebody_elses_home(company: InProcess) -> None:
    path = hook(company, "task_created", KEEP)
    os.chown(path, 12345, 12345)
    assert "another user" in listed(company).problem
    os.chown(company.root / "hooks", 12345, 12345)
    assert "another user" in listed(company).problem
    os.chown(company.root, 12345, 12345)
    assert "its owner only" in listed(company).problem


def test_too_many_hooks_and_a_folder_that_is_a_link_are_said(company: InProcess, tmp_path: Path) -> None:
    for number in range(101):
        (company.root / "hooks" / f"any.{number:03}").touch(mode=0o755)
    assert [bool(file.problem) for file in find(company.place.home)] == [False] * 100 + [True]
    (company.root / "hooks").rename(tmp_path / "elsewhere")
    (company.root / "hooks").symlink_to(tmp_path / "elsewhere")
    assert all("no directory" in file.problem for file in find(company.place.home))


def test_a_home_without_hooks_has_none(company: InProcess) -> None:
    (company.root / "hooks").rmdir()
    assert company.place.perform(ListHooks()).hooks == []
    assert look(company) == HookRun(0, 0, 0, 0)


# --- when it fails ------------------------------------------------------------------------------


def test_a_failure_is_tried_again_later_and_what_follows_waits(company: InProcess) -> None:
    hook(company, "task_created", f'test -e "$POPUG_HOME/up" || {{ echo no chat; exit 3; }}; {KEEP}')
    add(company, "One", "Two")
    assert look(company) == HookRun(1, 0, 1, 0)
    assert look(company) == HookRun(1, 0, 0, 0)
    state = listed(company)
    assert (state.state, state.attempts, state.waiting, state.last_error) == ("retrying", 1, 2, "exit 3: no chat")
    assert any("is tried again (exit 3: no chat)" in warning for warning in company.warnings)
    company.clock.advance(seconds=11)
    assert look(company).failed == 1
    (company.root / "up").touch()
    company.clock.advance(seconds=11)
    assert look(company).done == 0
    company.clock.advance(seconds=10)
    assert look(company).done == 2
    assert titles(company) == ["One", "Two"]
    assert (listed(company).state, listed(company).last_error) == ("ready", None)


def test_what_fails_for_good_is_set_aside_and_given_once_more_when_asked_for(company: InProcess) -> None:
    poison = 'event=$(cat); case $event in *Poison*) test -e cure || exit 1;; esac; echo "$event" >> got.jsonl'
    hook(company, "task_created", poison)
    add(company, "Poison", "Fine")
    for _ in range(5):
        look(company)
        company.clock.advance(hours=1)
    assert titles(company) == ["Fine"]
    state = listed(company)
    assert (state.state, state.dead, state.waiting, state.last_error) == ("ready", 1, 0, "exit 1")
    assert "sets the event aside" in company.warnings[-1]
    assert company.place.perform(RetryHook(name="task_created")).queued == 1
    assert listed(company).waiting == 1
    assert look(company) == HookRun(1, 0, 1, 1)
    (company.root / "cure").touch()
    company.place.perform(RetryHook(name="task_created"))
    assert look(company).done == 1
    assert titles(company) == ["Fine", "Poison"]
    assert listed(company).dead == 0


def test_one_hook_that_fails_keeps_no_other_waiting(company: InProcess) -> None:
    hook(company, "task_created.a", "exit 1")
    hook(company, "task_created.b", KEEP)
    add(company, "One", "Two")
    assert look(company) == HookRun(2, 2, 1, 0)
    assert titles(company) == ["One", "Two"]


def test_a_hook_that_takes_too_long_is_ended_with_all_that_it_started(
    company: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POPUG_HOOKS_TIMEOUT_SECONDS", "1")
    company.place.close()
    hook(company, "task_created", 'sleep 1000 & echo $! > "$POPUG_HOME/child"; wait')
    add(company, "One")
    assert look(company).failed == 1
    assert listed(company).last_error == "it took longer than 1 s"
    assert is_gone(company.root / "child")


def test_what_a_hook_leaves_running_is_ended_with_it(company: InProcess) -> None:
    hook(company, "task_created", 'sleep 1000 & echo $! > "$POPUG_HOME/child"; echo done')
    add(company, "One")
    assert look(company).done == 1
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
def test_a_trial_tells_exit_and_output(company: InProcess, script: str, exit_status: int, output: str) -> None:
    hook(company, "any", script)
    trial = company.place.perform(TryHook(name="any"))
    assert (trial.exit, trial.output, trial.is_sample) == (exit_status, output, False)
    assert company.rows("SELECT * FROM bus_hooks") == []


def test_a_hook_that_cannot_be_started_says_why(company: InProcess) -> None:
    path = hook(company, "any", "")
    path.write_text("no shebang")
    trial = company.place.perform(TryHook(name="any"))
    assert (trial.exit, "#!/bin/sh" in trial.output) == (126, True)


def test_a_trial_is_of_the_event_that_is_named_the_last_of_its_kind_or_a_sample(company: InProcess) -> None:
    hook(company, "task_created", "cat")
    trial = company.place.perform(TryHook(name="task_created"))
    assert (trial.is_sample, json.loads(trial.output)) == (True, trial.event)
    add(company, "One", "Two")
    trial = company.place.perform(TryHook(name="task_created"))
    assert (trial.is_sample, trial.event["data"]["title"]) == (False, "Two")
    (first, *_) = company.rows("SELECT id FROM bus_log WHERE type LIKE '%.task_created.%' ORDER BY sequence")
    trial = company.place.perform(TryHook(name="task_created", event_id=first["id"]))
    assert trial.event["data"]["title"] == "One"
    (other,) = company.rows("SELECT id FROM bus_log WHERE sequence = 1")
    with pytest.raises(InvalidInput, match="does not hear of"):
        company.place.perform(TryHook(name="task_created", event_id=other["id"]))
    for name in ("nobody", "../popug.db"):
        with pytest.raises(NotFound, match="There is no hook"):
            company.place.perform(TryHook(name=name))


@pytest.mark.parametrize("event_type", EVENTS)
def test_a_sample_fits_its_schema(event_type: str) -> None:
    now = datetime.now(UTC)
    assert decode(1, json.dumps(sample(event_type, now))).time == now
    assert any(event_type in types for types in events().values())


# --- claims -------------------------------------------------------------------------------------


def test_what_somebody_has_claimed_is_left_alone_until_the_lease_is_over(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    add(company, "One")
    register(company.place, SCHEDULER, find(company.place.home))
    (file,) = find(company.place.home)
    with company.place.runtime.writing(SCHEDULER) as context:
        lease = lease_of(context.settings)
        lost = places.claim(context, "task_created", file.types, lease)
        assert lost is not None
        assert places.claim(context, "task_created", file.types, lease) is None
    assert (look(company).done, listed(company).state) == (0, "running")
    company.clock.advance(seconds=46)
    assert look(company).done == 1
    with company.place.runtime.writing(SCHEDULER) as context:
        assert not places.failed(context, lost, "too late")
        places.succeeded(context, lost)
    assert (listed(company).attempts, listed(company).last_error) == (0, None)


def test_a_lease_from_a_clock_that_was_set_back_holds_nobody_up(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    add(company, "One")
    register(company.place, SCHEDULER, find(company.place.home))
    (file,) = find(company.place.home)
    with company.place.runtime.writing(SCHEDULER) as context:
        assert places.claim(context, "task_created", file.types, lease_of(context.settings))
    company.clock.advance(days=-2)
    assert look(company).done == 1


def test_two_that_look_at_once_run_each_event_once_in_order(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    add(company, *(f"Task {number}" for number in range(12)))
    runs: list[HookRun] = []

    def another() -> None:
        place = Local(company.place.home, clock=company.clock, chance=SeededChance(3))
        runs.append(place.perform(RunHooks(), actor=SCHEDULER))
        place.close()

    threads = [threading.Thread(target=another) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(run.done for run in runs) == 12
    assert titles(company) == [f"Task {number}" for number in range(12)]


def test_a_command_waits_for_no_hook_and_the_look_holds_no_lock(company: InProcess) -> None:
    hook(company, "task_created", 'touch "$POPUG_HOME/begun"; while ! test -e "$POPUG_HOME/go"; do sleep 0.02; done')
    add(company, "One")
    thread = threading.Thread(target=look, args=(company,))
    thread.start()
    wait_for(company.root / "begun")
    other = Local(company.place.home, clock=company.clock, chance=SeededChance(4))
    other.perform_as(company.people["boss"], AddTask(title="Meanwhile"))
    other.close()
    assert thread.is_alive()
    (company.root / "go").touch()
    thread.join()
    assert listed(company).waiting == 0


def test_nothing_is_begun_after_its_time_and_the_rest_is_left(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    add(company, "One")
    assert look(company, seconds=0) == HookRun(1, 0, 0, 0)
    assert listed(company).waiting == 1
    desk = Desk(company.place, SCHEDULER, 60)
    desk.began -= 61
    desk.work(find(company.place.home))
    assert got(company) == []


def test_a_machine_that_cannot_start_programs_counts_no_attempt(
    company: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    hook(company, "task_created", KEEP)
    add(company, "One")
    with monkeypatch.context() as patch:
        patch.setattr("popug_cli.app.hook_process.TemporaryFile", full)
        with pytest.raises(Unavailable, match="No space left"):
            look(company)
    assert (listed(company).attempts, listed(company).state) == (0, "ready")
    assert look(company).done == 1


def test_the_doctor_finds_nothing_wrong_with_hooks_and_their_dead_letters(company: InProcess) -> None:
    def wrong() -> list[str]:
        return [check.name for check in company.place.perform(CheckHealth()).checks if not check.ok]

    before = wrong()
    hook(company, "task_created", "exit 1")
    add(company, "One")
    for _ in range(5):
        look(company)
        company.clock.advance(hours=1)
    assert listed(company).dead == 1
    assert wrong() == before
