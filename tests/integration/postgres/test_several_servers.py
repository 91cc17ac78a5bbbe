"""Several servers on one database, each with a home and a signing key of its own."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message
from popug_cli.messages.bus import ListEvents
from popug_cli.messages.identity import LogIn, LogOut, RotateKey, WhoAmI
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.messages.tasks import AddTask, ImportTasks, ListTasks, NewTask, StatusFilter
from tests.support.installed_company import PASSWORD, PROGRAM, Company
from tests.support.running_server import eventually

TITLES = [f"Chore {number}" for number in range(20)]
CHEAP_HASHES = "[identity]\nargon2_time_cost = 1\nargon2_memory_kib = 8192\nargon2_parallelism = 1\n"


class Node:
    """A server's company, held open in this process."""

    def __init__(self, company: Company, name: str) -> None:
        self.home = Home(company.folder / name)
        self.home.make()
        self.home.config.write_text(f'{CHEAP_HASHES}[database]\nurl = "{company.database_url()}"\n')
        self.served = ServedCompany(self.home, threads=4)

    def perform(self, message: Message[Any], token: str | None = None, key: str | None = None) -> Any:
        """Perform a message as a client of this server."""
        return self.served.perform(message, token, key=key).answer

    def log_in(self, name: str = "ada", password: str = PASSWORD) -> str:
        """Return a new token, signed by this server."""
        token: str = self.perform(LogIn(username=name, password=password)).token
        return token

    def refusal(self, message: Message[Any], token: str | None = None) -> str:
        """Return the code of the error with which a message must be refused."""
        with pytest.raises(PopugError) as raised:
            self.perform(message, token)
        return raised.value.code


@pytest.fixture
def nodes(company: Company) -> Iterator[tuple[Node, Node]]:
    """Two servers of one company."""
    pair = Node(company, "first"), Node(company, "second")
    yield pair
    for node in pair:
        node.served.close()


def at_once(*functions: Callable[[], Any]) -> list[Any]:
    """Call functions in threads that begin together; return their results."""
    barrier = threading.Barrier(len(functions))

    def call(function: Callable[[], Any]) -> Any:
        barrier.wait(60)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(call, functions))


def test_token_of_one_server_verified_by_the_other(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    token = first.log_in()
    assert second.perform(WhoAmI(), token).username == "ada"
    keys = [{file.name for file in node.home.keys.glob("*.pem")} for node in nodes]
    assert all(len(names) == 1 for names in keys)
    assert keys[0] != keys[1]


def test_token_revoked_on_one_server_refused_by_the_other(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    token = first.log_in()
    assert second.perform(WhoAmI(), token).username == "ada"
    first.perform(LogOut(), token)
    assert second.refusal(WhoAmI(), token) == "token_revoked"


def test_key_rotated_on_one_server_is_known_to_the_other(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    before = first.log_in()
    kid = first.perform(RotateKey(), before).kid
    after = first.log_in()
    assert kid in {file.stem for file in first.home.keys.glob("*.pem")}
    assert kid not in {file.stem for file in second.home.keys.glob("*.pem")}
    for token in (before, after):
        assert second.perform(WhoAmI(), token).username == "ada"


def test_lost_key_of_one_server_leaves_the_other_usable(company: Company, nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    token = first.log_in()
    for file in first.home.keys.iterdir():
        file.unlink()
    assert second.perform(WhoAmI(), token).username == "ada"
    again = Node(company, "first")
    assert again.perform(WhoAmI(), second.log_in()).username == "ada"
    assert second.perform(WhoAmI(), again.log_in()).username == "ada"
    again.served.close()


def test_failed_logins_on_both_servers_count_together(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    for number in range(6):
        assert nodes[number % 2].refusal(LogIn(username="kesha", password="wrong-" * 4)) == "bad_credentials"
    assert first.refusal(LogIn(username="kesha", password=PASSWORD)) == "too_many_attempts"
    assert second.refusal(LogIn(username="kesha", password=PASSWORD)) == "too_many_attempts"


def test_device_known_to_one_server_is_known_to_the_other(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    device = first.perform(LogIn(username="kesha", password=PASSWORD)).device_token
    for _ in range(6):
        assert second.refusal(LogIn(username="kesha", password="wrong-" * 4)) == "bad_credentials"
    assert second.refusal(LogIn(username="kesha", password=PASSWORD)) == "too_many_attempts"
    answer = second.perform(LogIn(username="kesha", password=PASSWORD, device_token=device))
    assert answer.user.username == "kesha"


def test_idempotency_key_sent_to_both_servers_adds_once(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    token = first.log_in()
    for number in range(5):
        message, key = AddTask(title=f"Chore {number}"), f"key-{number}"
        answers = at_once(*(partial(node.served.perform, message, token, key=key) for node in (*nodes, *nodes)))
        assert sorted(answer.is_replayed for answer in answers) == [False, True, True, True]
    assert first.perform(ListTasks(status=StatusFilter.ALL), token).total == 5
    with pytest.raises(PopugError) as raised:
        second.perform(AddTask(title="Another"), token, key="key-1")
    assert raised.value.code == "idempotency_conflict"


def test_two_servers_catching_up_process_no_event_twice(nodes: tuple[Node, Node], company: Company) -> None:
    first, _ = nodes
    token = first.log_in()

    def add(node: Node) -> None:
        for title in TITLES:
            node.perform(AddTask(title=title), token)

    at_once(*(partial(add, node) for node in (*nodes, *nodes)))
    with first.served._runtime.reading(ANONYMOUS) as context:
        fees = context.connection.scalar("SELECT count(*) FROM billing_entries WHERE kind = 'fee'")
        numbers = context.connection.column("SELECT number FROM tasks_tasks ORDER BY number")
        sequences = context.connection.column("SELECT sequence FROM bus_log ORDER BY sequence")
    assert fees == len(numbers) == 4 * len(TITLES)
    assert numbers == [*range(1, fees + 1)]
    assert sequences == [*range(1, len(sequences) + 1)]
    health = company.run("doctor").ok()
    assert [check for check in health["checks"] if not check["ok"]] == []


def test_query_on_one_server_shows_what_the_other_wrote(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    token = first.log_in()
    for title in TITLES[:10]:
        number = first.perform(AddTask(title=title), token).number
        listed = second.perform(ListTasks(status=StatusFilter.ALL), token)
        assert [task.number for task in listed.tasks][-1] == number
        events = second.perform(ListEvents(type="task_assigned", limit=100), token).events
        assert len(events) == number


def test_same_file_imported_by_both_servers_adds_once(nodes: tuple[Node, Node]) -> None:
    first, _ = nodes
    token = first.log_in()
    message = ImportTasks(lines=[NewTask(title=title) for title in TITLES])
    answers = at_once(*(partial(node.perform, message, token) for node in nodes))
    assert sorted(answer.imported for answer in answers) == [0, len(TITLES)]


def test_eight_processes_of_four_homes_write(company: Company) -> None:
    homes = [str(company.folder / f"home-{number}") for number in range(4)]
    token = company.token("ada")

    def add(number: int) -> list[int]:
        env = {"POPUG_HOME": homes[number % 4], "POPUG_TOKEN": token}
        return [company.run("task", "add", f"Chore {number}-{each}", env=env).ok()["number"] for each in range(3)]

    numbers = sorted(number for each in at_once(*(partial(add, process) for process in range(8))) for number in each)
    assert numbers == [*range(1, 25)]
    assert company.run("doctor").ok()["ok"] is True


def test_two_schedulers_close_each_day_once(company: Company, nodes: tuple[Node, Node]) -> None:
    company.add_task("ada", "Feed the cage")
    environments = [company.environment("ada", {"POPUG_HOME": str(node.home.root)}) for node in nodes]
    line = [*PROGRAM, "close-day", "--date", "today", "--yes", "--json"]
    processes = [subprocess.Popen(line, env=env, stdout=subprocess.PIPE) for env in environments for _ in range(2)]
    said = [process.communicate()[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted('"already_closed":false' in each for each in said) == [False, False, False, True]
    events = company.ask("ada", "events", "list", "--type", "day_closed")["events"]
    assert len(events) == 1


def test_hook_in_both_homes_runs_once(company: Company, nodes: tuple[Node, Node]) -> None:
    ran = company.folder / "ran"
    servers = []
    for node in nodes:
        node.home.hooks.mkdir()
        hook = node.home.hooks / "task_created"
        hook.write_text(f'#!/bin/sh\necho "$POPUG_EVENT_ID" >>{ran}\n')
        hook.chmod(0o700)
        node.served.close()
        log = (company.folder / f"{node.home.root.name}.log").open("wb")
        env = company.environment(env={"POPUG_HOME": str(node.home.root)})
        servers.append(subprocess.Popen([*PROGRAM, "serve"], env=env, stdout=log, stderr=log))
        log.close()
    try:
        for node in nodes:
            eventually(node.home.socket.exists)
        for number in range(6):
            node = nodes[number % 2]
            company.run("task", "add", f"Chore {number}", as_user="ada", env={"POPUG_HOME": str(node.home.root)}).ok()
        eventually(lambda: ran.exists() and len(ran.read_text().split()) >= 6)
        events = company.ask("ada", "events", "list", "--type", "task_created")["events"]
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()
    assert sorted(ran.read_text().split()) == sorted(event["id"] for event in events)
