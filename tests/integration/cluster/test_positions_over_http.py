"""Two services behind servers: each answer has the position of its service, and a client carries it to the other."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import pytest

from popug_cli.app import LocalBackend
from popug_cli.bus.service.coverage import includes_of
from popug_cli.client.address import Address
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.cluster.links import relay_once, replicate_once
from popug_cli.cluster.service_homes import create_service_homes
from popug_cli.kernel.clock import SystemClock
from popug_cli.messages.billing import GetBalance
from popug_cli.messages.services import SERVICES, receivers_of
from popug_cli.messages.tasks import AddTask
from popug_cli.server.thread_pools import READERS
from tests.simulation.linked.topic import MemoryTopic
from tests.support.running_server import Answer, RunningServer, create_home

PATIENT_SECONDS = 30.0
SHORT_WAITS = """
from popug_cli.app import service_reads
service_reads.WAIT_SECONDS, service_reads.INSIST_SECONDS = {}, 0.5
"""


class ServedServices:
    """Servers of tasks and billing, and this process, which copies the logs of all services between their homes."""

    def __init__(self, directory: Path, wait_seconds: float) -> None:
        company = create_home(directory / "company")
        self.tokens = company.tokens
        with closing(LocalBackend(company.home)) as backend:
            homes = create_service_homes(backend, directory / "services")
        self.backends = {name: LocalBackend(home) for name, home in homes.items()}
        self.topics = {name: MemoryTopic(SystemClock()) for name in SERVICES}
        self.copy("identity")
        patch = SHORT_WAITS.format(wait_seconds)
        self.tasks, self.billing = (RunningServer(homes[name].root, patch=patch) for name in ("tasks", "billing"))

    def copy(self, origin: str) -> None:
        backend = self.backends[origin]
        includes = partial(includes_of, service=origin, consumers=backend.consumers)
        relay_once(backend.runtime, self.topics[origin], includes)
        for service in receivers_of(origin):
            while replicate_once(self.backends[service].runtime, origin, self.topics[origin]):
                pass

    def add_task(self) -> Answer:
        return self.tasks.post("tasks/add_task", {"title": "Feed the cage"}, self.tokens["kesha"])

    def balance(self, position: str, user: str = "kesha") -> Answer:
        return self.billing.post("billing/get_balance", {}, self.tokens[user], Popug_Position=position)

    def close(self) -> None:
        for server in (self.tasks, self.billing):
            server.process.kill()
            server.process.communicate()
        for backend in self.backends.values():
            backend.close()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[ServedServices]:
    services = ServedServices(tmp_path, wait_seconds=0.2)
    yield services
    services.close()


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[ServedServices]:
    services = ServedServices(tmp_path, wait_seconds=PATIENT_SECONDS)
    yield services
    services.close()


def test_answer_names_the_position_of_its_service(impatient: ServedServices) -> None:
    added = impatient.add_task()
    assert added.status == 200, added
    position = added.headers["popug-position"]
    log_id = impatient.backends["tasks"].runtime.service_log_id[-8:]
    with impatient.backends["tasks"].runtime.database.connection(writes=False) as connection:
        last = connection.scalar("SELECT max(sequence) FROM bus_log")
    assert position == f"tasks={last}.{log_id}"


def test_server_that_is_behind_says_so(impatient: ServedServices) -> None:
    added = impatient.add_task()
    position = added.headers["popug-position"]
    behind = impatient.balance(position)
    assert behind.status == 200
    (warning,) = json.loads(behind.headers["popug-warnings"])
    assert "(behind)" in warning
    assert re.fullmatch(r"billing=\d+\.[0-9a-f]{8}", behind.headers["popug-position"])
    assert "popug-warnings" not in impatient.balance("").headers
    impatient.copy("tasks")
    current = impatient.balance(position, added.document["assignee"])
    assert "popug-warnings" not in current.headers
    assert current.document["balance_cents"] < 0


def test_close_that_is_behind_has_status_503(impatient: ServedServices) -> None:
    impatient.copy("identity")
    position = impatient.add_task().headers["popug-position"]
    refused = impatient.billing.post("billing/close_day", {}, impatient.tokens["asya"], Popug_Position=position)
    assert (refused.status, refused.document["code"]) == (503, "behind")
    assert refused.document["exit_status"] == 8


def test_error_has_the_positions_that_it_tells_of(impatient: ServedServices) -> None:
    """A refused token has read nothing; a task that was not found has been looked for."""
    position = impatient.add_task().headers["popug-position"]
    missing = impatient.tasks.post("tasks/get_task", {"number": 999}, impatient.tokens["kesha"])
    assert (missing.status, missing.headers["popug-position"]) == (404, position)
    refused = impatient.tasks.post("tasks/get_task", {"number": 999}, "forged")
    assert (refused.status, "popug-position" in refused.headers) == (401, False)


def test_repeated_answer_has_its_position_again(impatient: ServedServices) -> None:
    """A client whose connection broke sends a command again, and has not seen the first answer."""
    kesha = impatient.tokens["kesha"]
    first, again = (
        impatient.tasks.post("tasks/add_task", {"title": "Feed the cage"}, kesha, Idempotency_Key="once")
        for _ in range(2)
    )
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.document, again.headers["popug-position"]) == (first.document, first.headers["popug-position"])


def test_client_carries_positions_between_services(patient: ServedServices) -> None:
    warnings: list[str] = []
    tasks, billing = (
        RemoteBackend(Address(path=str(server.socket)), warn=warnings.append)
        for server in (patient.tasks, patient.billing)
    )
    billing.positions = tasks.positions
    task = tasks.perform(AddTask(title="Feed the cage"), patient.tokens["kesha"])

    def copy_later() -> None:
        sleep(0.1)
        patient.copy("tasks")

    copying = Thread(target=copy_later)
    copying.start()
    balance = billing.perform(GetBalance(), patient.tokens[task.assignee])
    copying.join()
    assert warnings == []
    assert balance.balance_cents < 0
    assert set(tasks.positions.read()) == {"tasks", "billing"}


def test_many_queries_that_wait_delay_no_other_query(patient: ServedServices) -> None:
    position = patient.add_task().headers["popug-position"]
    waiting = [Thread(target=patient.balance, args=(position,)) for _ in range(2 * READERS)]
    for thread in waiting:
        thread.start()
    sleep(0.5)
    began = monotonic()
    assert patient.balance("").status == 200
    assert monotonic() - began < PATIENT_SECONDS / 10
    assert all(thread.is_alive() for thread in waiting)
    patient.copy("tasks")
    for thread in waiting:
        thread.join()


def test_shutdown_ends_the_wait(patient: ServedServices) -> None:
    position = patient.add_task().headers["popug-position"]
    answers: list[Answer] = []
    waiting = Thread(target=lambda: answers.append(patient.balance(position)))
    waiting.start()
    sleep(0.5)
    began = monotonic()
    assert patient.billing.end() == 0
    assert monotonic() - began < PATIENT_SECONDS / 3
    waiting.join()
    assert answers[0].status == 200
    assert "(behind)" in answers[0].headers["popug-warnings"]
