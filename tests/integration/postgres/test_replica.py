"""Queries on a standby: never older than what the caller has seen, unless the answer says ``behind``."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.positions import parse
from popug_cli.messages.tasks import AddTask, CompleteTask, ListTasks
from popug_cli.messages.today import ShowToday
from tests.support.postgres.replicated import ReplicatedCompany
from tests.support.running_server import RunningServer, eventually

PAUSE, RESUME = "SELECT pg_wal_replay_pause()", "SELECT pg_wal_replay_resume()"


def pause(company: ReplicatedCompany) -> None:
    company.standby.execute(PAUSE)
    state = "SELECT pg_get_wal_replay_pause_state()"
    eventually(lambda: company.standby.execute(state) == [("paused",)])


def resume(company: ReplicatedCompany) -> None:
    company.standby.execute(RESUME)


def run(company: ReplicatedCompany, *line: str, user: str = "ada") -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with a session file of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(company.home.root.parent),
        "POPUG_SESSION": str(session_file(company)),
        "POPUG_TOKEN": company.tokens[user],
    }
    program = [sys.executable, "-m", "popug_cli", *line, "--home", str(company.home.root), "--json"]
    return subprocess.run(program, env=environment, capture_output=True, text=True, check=False)


def session_file(company: ReplicatedCompany) -> Path:
    return company.home.root.parent / "session.json"


def post(server: RunningServer, company: ReplicatedCompany, route: str, message: Any, position: str = "") -> Any:
    """Return the answer's document, its positions and its warnings."""
    given = {"Popug_Position": position} if position else {}
    answer = server.post(route, message, company.tokens["ada"], **given)
    assert answer.status == 200, answer
    return answer.document, answer.headers["popug-position"], json.loads(answer.headers.get("popug-warnings", "[]"))


def test_each_query_shows_own_writes(replicated: ReplicatedCompany) -> None:
    replicated.use_replica()
    replicated.standby.configure({"recovery_min_apply_delay": "'150ms'"})
    replicated.standby.reload()
    warnings: list[str] = []
    backend, waited = replicated.backend(warnings), 0
    for number in range(1, 9):
        backend.perform(AddTask(title="Feed the cage"), replicated.tokens["ada"])
        began = time.monotonic()
        assert backend.perform(ListTasks(), replicated.tokens["ada"]).total == number
        waited += time.monotonic() - began > 0.05
    assert waited
    assert warnings == []
    backend.close()


def test_answer_on_paused_standby_says_behind(replicated: ReplicatedCompany) -> None:
    replicated.use_replica()
    warnings: list[str] = []
    backend = replicated.backend(warnings)
    pause(replicated)
    assert backend.perform(AddTask(title="Feed the cage"), replicated.tokens["ada"]).number == 1
    began = time.monotonic()
    assert backend.perform(ListTasks(), replicated.tokens["ada"]).total == 0
    assert 4.9 < time.monotonic() - began < 50
    assert len(warnings) == 1
    assert "(behind)" in warnings[0]
    resume(replicated)
    assert backend.perform(ListTasks(), replicated.tokens["ada"]).total == 1
    assert len(warnings) == 1
    backend.close()


def test_change_without_event_is_shown_too(replicated: ReplicatedCompany) -> None:
    """The consumers change balances without an event of their own; the caller has an answer that shows them."""
    replicated.use_replica()
    backend, earned = replicated.backend(), 0
    for _ in range(5):
        number = backend.perform(AddTask(title="Feed the cage"), replicated.tokens["ada"]).number
        backend.perform(CompleteTask(number=number), replicated.tokens["kesha"])
        today = backend.perform(ShowToday(), replicated.tokens["kesha"])
        assert (today.open_count, today.earned_today_cents > earned) == (0, True)
        earned = today.earned_today_cents
    backend.close()


def test_server_waits_for_the_position_of_the_client(replicated: ReplicatedCompany) -> None:
    replicated.use_replica()
    with replicated.serve() as server:
        pause(replicated)
        _, position, _ = post(server, replicated, "tasks/add_task", {"title": "Feed the cage"})
        assert set(parse(position)) == {"company", "database"}
        old, old_position, warnings = post(server, replicated, "tasks/list_tasks", {})
        assert (old["total"], warnings) == (0, [])
        assert parse(old_position)["company"] < parse(position)["company"]
        behind, _, warnings = post(server, replicated, "tasks/list_tasks", {}, position)
        assert behind["total"] == 0
        assert "(behind)" in warnings[0]
        resume(replicated)
        new, new_position, warnings = post(server, replicated, "tasks/list_tasks", {}, position)
        assert (new["total"], warnings) == (1, [])
        assert all(parse(new_position)[source] >= seen for source, seen in parse(position).items())


@pytest.mark.parametrize(
    "position",
    ["company=999999.{log}, database=999999.{log}", "company=999999.0000", "nonsense", "company=1.{log},,=;\x80"],
)
def test_position_of_no_or_another_log_is_not_waited_for(replicated: ReplicatedCompany, position: str) -> None:
    replicated.use_replica()
    with replicated.serve() as server:
        _, known, _ = post(server, replicated, "tasks/list_tasks", {})
        given = position.format(log=parse(known)["company"].log_id)
        began = time.monotonic()
        _, _, warnings = post(server, replicated, "tasks/list_tasks", {}, given)
        assert time.monotonic() - began < 4
        assert warnings == []


def test_command_is_answered_by_the_primary(replicated: ReplicatedCompany) -> None:
    replicated.use_replica()
    with replicated.serve() as server:
        pause(replicated)
        token = replicated.tokens["ada"]
        first = server.post("tasks/add_task", {"title": "Feed the cage"}, token, Idempotency_Key="k")
        again = server.post("tasks/add_task", {"title": "Feed the cage"}, token, Idempotency_Key="k")
        assert first.document == again.document
        assert again.headers["idempotency-replayed"] == "true"
        resume(replicated)


def test_revoked_token_is_refused_though_standby_is_late(replicated: ReplicatedCompany) -> None:
    replicated.use_replica()
    with replicated.serve() as server:
        pause(replicated)
        post(server, replicated, "identity/deactivate_user", {"username": "kesha"})
        assert server.post("tasks/list_tasks", {}, replicated.tokens["kesha"]).status == 401
        resume(replicated)


def test_dead_standby_leaves_queries_to_the_primary(replicated: ReplicatedCompany) -> None:
    replicated.use_replica()
    warnings: list[str] = []
    backend = replicated.backend(warnings)
    backend.perform(AddTask(title="Feed the cage"), replicated.tokens["ada"])
    assert backend.perform(ListTasks(), replicated.tokens["ada"]).total == 1
    replicated.standby.kill()
    backend.perform(AddTask(title="Feed the cage"), replicated.tokens["ada"])
    assert backend.perform(ListTasks(), replicated.tokens["ada"]).total == 2
    replicated.standby.start()
    backend.perform(AddTask(title="Feed the cage"), replicated.tokens["ada"])
    assert backend.perform(ListTasks(), replicated.tokens["ada"]).total == 3
    assert warnings == []
    backend.close()


def test_queries_go_on_without_the_primary(replicated: ReplicatedCompany) -> None:
    replicated.configure(replicated.primary.url(replicated.database), replicated.standby.url(replicated.database))
    with replicated.serve() as server:
        _, position, _ = post(server, replicated, "tasks/add_task", {"title": "Feed the cage"})
        post(server, replicated, "tasks/list_tasks", {}, position)
        replicated.primary.kill()
        document, _, warnings = post(server, replicated, "tasks/list_tasks", {}, position)
        assert document["total"] == 1
        assert "this answer of a replica may be old" in warnings[0]


def test_replica_of_another_company_is_refused(replicated: ReplicatedCompany) -> None:
    other = replicated.primary.create_database(template=replicated.database)
    update = "UPDATE storage_home SET home_id = 'another'"
    replicated.primary.execute(update, database=other, role="popug")
    replicated.configure(replica_url=replicated.primary.url(other))
    backend = replicated.backend()
    with pytest.raises(InvalidInput) as refused:
        backend.perform(ListTasks(), replicated.tokens["ada"])
    assert refused.value.code == "invalid_url"
    assert "does not hold this company" in refused.value.message
    backend.close()


def test_conflict_on_the_standby_is_run_again(replicated: ReplicatedCompany) -> None:
    """The primary removes rows that a query on the standby still reads: 40001, and 40P01 for a lock."""
    replicated.use_replica()
    replicated.standby.configure({"max_standby_streaming_delay": "0", "hot_standby_feedback": "off"})
    replicated.standby.reload()
    backend = replicated.backend()
    backend.perform(AddTask(title="Feed the cage"), replicated.tokens["ada"])
    replica = backend.runtime.database.replica
    assert replica is not None
    attempts = []

    def read_slowly() -> int:
        with replica.transaction(writes=False) as connection:
            count = int(connection.scalar("SELECT count(*) FROM tasks_tasks"))
            attempts.append(count)
            if len(attempts) == 1:
                lock = "BEGIN; LOCK TABLE tasks_tasks IN ACCESS EXCLUSIVE MODE; COMMIT"
                replicated.primary.execute(lock, database=replicated.database)
                eventually(lambda: ended(replicated, "idle in transaction"))
            connection.scalar("SELECT count(*) FROM tasks_tasks")
            return count

    assert backend.rerun(read_slowly) == 1
    assert len(attempts) > 1
    backend.close()


def ended(company: ReplicatedCompany, state: str) -> bool:
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'popug' AND state = %s"
    return company.standby.execute(sessions, state) == [(0,)]


def test_next_process_shows_what_the_last_one_wrote(replicated: ReplicatedCompany) -> None:
    replicated.use_replica()
    pause(replicated)
    assert run(replicated, "task", "add", "Feed the cage").returncode == 0
    file = session_file(replicated).with_suffix(".positions.json")
    assert file.stat().st_mode & 0o077 == 0
    listed = run(replicated, "tasks", "list", "--all")
    assert "(behind)" in listed.stderr
    resume(replicated)
    listed = run(replicated, "tasks", "list", "--all")
    assert json.loads(listed.stdout)["total"] == 1
    assert listed.stderr == ""
    file.write_text("{damaged")
    assert run(replicated, "tasks", "list", "--all").returncode == 0
