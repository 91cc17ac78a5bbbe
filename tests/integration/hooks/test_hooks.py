"""Hooks: the operator's programs get events at least once, in order, outside any transaction."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from popug_cli.bus import hook_cursors as places
from popug_cli.hooks.files import find
from popug_cli.kernel.errors import Conflict
from popug_cli.messages.hooks import HookRunResult, ListHooks, TryHook
from popug_cli.messages.principal import SCHEDULER
from tests.support.company import InProcess
from tests.support.hooks_company import KEEP, add, company, find_hook, hook, received, run_hooks, titles

__all__ = ["company"]


# --- delivery -----------------------------------------------------------------------------------


def test_hook_gets_each_event_once_in_log_order(company: InProcess) -> None:
    hook(company, "task_created.sh", KEEP)
    add(company, "One", "Two", "Three")
    assert run_hooks(company) == HookRunResult(hooks=1, done=3, failed=0, dead=0)
    assert titles(company) == ["One", "Two", "Three"]
    (logged,) = company.rows(
        "SELECT envelope FROM bus_log WHERE type LIKE '%.task_created.%' ORDER BY sequence LIMIT 1"
    )
    assert received(company)[0] == json.loads(logged["envelope"])
    assert received(company)[0]["specversion"] == "1.0"
    assert run_hooks(company) == HookRunResult(1, 0, 0, 0)
    assert len(received(company)) == 3


def test_any_hook_gets_every_event_besides_typed_hooks(company: InProcess) -> None:
    hook(company, "any", KEEP)
    hook(company, "task_priced.1", 'echo "$POPUG_EVENT" >> "$POPUG_HOME/first"')
    hook(company, "task_priced.2", 'echo "$POPUG_EVENT_TYPE" >> "$POPUG_HOME/second"')
    head = company.backend.runtime
    with head.reading(SCHEDULER) as context:
        before = context.position
    add(company, "One")
    run_hooks(company)
    sequences = [int(event["sequence"]) for event in received(company)]
    assert sequences == list(range(before + 1, before + 1 + len(sequences)))
    assert {"task_created", "task_assigned", "task_priced", "entry_posted"} <= {
        event["type"].split(".")[2] for event in received(company)
    }
    assert (company.root / "first").read_text() == "task_priced\n"
    assert (company.root / "second").read_text() == "popug.billing.task_priced.v1\n"


def test_hook_starts_with_events_after_it_was_added(company: InProcess) -> None:
    add(company, "Before")
    company.clock.instant = datetime.now(UTC)
    time.sleep(0.01)
    hook(company, "task_created", KEEP)
    assert find_hook(company).waiting == 0
    add(company, "After, before anybody looked")
    assert find_hook(company).waiting == 1
    run_hooks(company)
    add(company, "Later")
    run_hooks(company)
    assert titles(company) == ["After, before anybody looked", "Later"]


def test_hook_added_with_clock_set_back_starts_at_log_end(company: InProcess) -> None:
    company.clock.advance(days=-30)
    add(company, "Before")
    hook(company, "task_created", KEEP)
    run_hooks(company)
    add(company, "After")
    run_hooks(company)
    assert titles(company) == ["After"]


def test_events_wait_for_a_hook_that_is_not_run(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    run_hooks(company)
    add(company, "On Friday")
    company.clock.advance(days=3)
    add(company, "On Monday")
    run_hooks(company)
    assert titles(company) == ["On Friday", "On Monday"]


def test_hook_resumes_after_short_absence_restarts_after_long(company: InProcess) -> None:
    path = hook(company, "task_created", KEEP)
    run_hooks(company)
    path.rename(company.root / "aside")
    add(company, "While it was edited")
    run_hooks(company)
    (company.root / "aside").rename(path)
    run_hooks(company)
    assert titles(company) == ["While it was edited"]
    path.chmod(0o644)
    run_hooks(company)
    add(company, "While it was off")
    company.clock.advance(minutes=11)
    run_hooks(company)
    assert company.rows("SELECT * FROM bus_hooks") == []
    company.clock.instant = max(company.clock.instant, datetime.now(UTC))
    with company.backend.runtime.writing(SCHEDULER) as context:
        places.sync(context, {"task_created": company.clock.now()})
    path.chmod(0o755)
    company.clock.advance(minutes=1)
    add(company, "On again")
    run_hooks(company)
    assert titles(company) == ["While it was edited", "On again"]


def test_idle_hook_far_behind_follows_the_log(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MIN_SKIPPED_EVENTS", 3)
    hook(company, "day_closed", KEEP)
    run_hooks(company)
    add(company, "One")
    assert run_hooks(company).done == 0
    (row,) = company.rows("SELECT position, (SELECT max(sequence) FROM bus_log) AS head FROM bus_hooks")
    assert row["position"] == row["head"]


def test_environment_is_small_and_without_a_token(company: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POPUG_TOKEN", "secret")
    monkeypatch.setenv("AWS_SECRET", "secret")
    hook(company, "task_created", "env; pwd")
    add(company, "One")
    trial = company.backend.perform(TryHook(name="task_created"))
    assert "secret" not in trial.output
    names = {line.partition("=")[0] for line in trial.output.splitlines() if "=" in line}
    assert {"PATH", "POPUG_HOME", "POPUG_EVENT", "POPUG_EVENT_TYPE", "POPUG_EVENT_ID"} <= names
    assert trial.output.splitlines()[-1] == str(company.root)


def test_event_longer_than_a_pipe_and_unread_input_are_fine(company: InProcess) -> None:
    hook(company, "any", "true")
    hook(company, "any.count", 'wc -c >> "$POPUG_HOME/sizes"')
    envelope = {"specversion": "1.0", "id": "big", "type": "popug.odd.big.v1", "subject": "x", "data": "y" * 300_000}
    with company.backend.runtime.writing(SCHEDULER) as context:
        context.connection.execute(
            "INSERT INTO bus_log (envelope) VALUES (?)", json.dumps(envelope | {"time": "2999-01-01T00:00:00Z"})
        )
    assert run_hooks(company).failed == 0
    assert int((company.root / "sizes").read_text().split()[-1]) > 300_000


# --- files --------------------------------------------------------------------------------------


def test_only_safe_files_run_and_others_report_their_problem(company: InProcess) -> None:
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
    assert run_hooks(company).done == 0
    assert received(company) == []
    problems = {file.name: file.problem for file in find(company.backend.home)}
    assert problems.pop("payout_made") == ""
    lacks = {"any.group": "chmod go-w", "any.others": "chmod go-w", "any.off": "chmod u+x", "any.link": "regular"}
    assert problems.keys() == lacks.keys() | {"task-asigned"}
    assert all(word in problems[name] for name, word in lacks.items())
    assert problems["task-asigned"].endswith("(did you mean task_assigned?)")
    assert find_hook(company, "any.group").state == "refused"
    with pytest.raises(Conflict, match="other users may write"):
        company.backend.perform(TryHook(name="any.group"))


def test_hooks_in_a_folder_writable_by_others_are_not_run(company: InProcess) -> None:
    hook(company, "task_created", KEEP)
    (company.root / "hooks").chmod(0o777)
    add(company, "One")
    assert run_hooks(company).done == 0
    assert "other users may write to" in find_hook(company).problem
    (company.root / "hooks").chmod(0o755)
    assert run_hooks(company).done == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_file_or_home_of_another_user_is_not_run(company: InProcess) -> None:
    path = hook(company, "task_created", KEEP)
    os.chown(path, 12345, 12345)
    assert "another user" in find_hook(company).problem
    os.chown(company.root / "hooks", 12345, 12345)
    assert "another user" in find_hook(company).problem
    os.chown(company.root, 12345, 12345)
    assert "only its owner runs hooks" in find_hook(company).problem


def test_too_many_hooks_and_linked_folder_are_reported(company: InProcess, tmp_path: Path) -> None:
    for number in range(101):
        (company.root / "hooks" / f"any.{number:03}").touch(mode=0o755)
    assert [bool(file.problem) for file in find(company.backend.home)] == [False] * 100 + [True]
    (company.root / "hooks").rename(tmp_path / "elsewhere")
    (company.root / "hooks").symlink_to(tmp_path / "elsewhere")
    assert all("is not a directory" in file.problem for file in find(company.backend.home))


def test_home_without_hooks_has_none(company: InProcess) -> None:
    (company.root / "hooks").rmdir()
    assert company.backend.perform(ListHooks()).hooks == []
    assert run_hooks(company) == HookRunResult(0, 0, 0, 0)
