"""A process that is stopped (SIGSTOP) during its transaction keeps the write lock for ten seconds at most."""

import json
import os
import signal
import subprocess
import sys
import time
from random import Random

import pytest

from popug_cli.messages.tasks import AddTask
from tests.support.postgres.replicated import ReplicatedCompany
from tests.support.postgres.server import HOST, OWNER
from tests.support.postgres.stopping_proxy import StoppingProxy

MAX_SECONDS = 10
SLACK_SECONDS = 5
END_SECONDS = 60
TASKS = 1_000
SEED, POINTS = 24, 12
STOPS_BETWEEN_STATEMENTS = """
import os, signal

from popug_cli.__main__ import main
from popug_cli.bus.publisher import Publisher

flush, flushes = Publisher.flush, iter(range(1_000))

def stop_at_one(publisher):
    if next(flushes) == 5:
        os.kill(os.getpid(), signal.SIGSTOP)
    flush(publisher)

Publisher.flush = stop_at_one
main()
"""
WITH_SHORT_LIMITS = """
from popug_cli.storage.postgres import session

session.SESSION_SETTINGS = session.SESSION_SETTINGS.replace("'10s'", "'1s'")
"""
POPUG = """
from popug_cli.__main__ import main

main()
"""
LONG_STATEMENT = "connection.scalar('SELECT length(?)', 'x' * 300_000)"
LONG_ANSWER = "connection.select('SELECT repeat(md5(i::text), 100) FROM generate_series(1, 10000) AS i')"
TRANSACTION = """
import sys
from popug_cli.storage.postgres.driver import PostgresDatabase

with PostgresDatabase(sys.argv[1]).transaction(writes=True) as connection:
    {}
"""


def import_tasks(company: ReplicatedCompany, program: str, url: str, first: int = 0) -> "subprocess.Popen[str]":
    """Start an import of tasks in a process of its own, which is a Python program with popug's arguments."""
    lines = company.home.root.parent / "tasks.ndjson"
    titles = (f"Task «{number}» \\" for number in range(first, first + TASKS))
    lines.write_text("".join(json.dumps({"title": title}) + "\n" for title in titles))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(lines.parent),
        "POPUG_TOKEN": company.tokens["ada"],
        "POPUG_DATABASE": url,
    }
    line = [sys.executable, "-c", program, "tasks", "import", str(lines), "--home", str(company.home.root)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def count_tasks(company: ReplicatedCompany) -> int:
    ((count,),) = company.primary.execute("SELECT count(*) FROM tasks_tasks", database=company.database)
    return int(count)


def test_stopped_import_keeps_the_lock_ten_seconds(replicated: ReplicatedCompany) -> None:
    backend = replicated.backend()
    process = import_tasks(replicated, STOPS_BETWEEN_STATEMENTS, replicated.url)
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert process.poll() is None, process.communicate()
        began = time.monotonic()
        backend.perform(AddTask(title="Second"), replicated.tokens["ada"])
        assert time.monotonic() - began < MAX_SECONDS + SLACK_SECONDS
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=END_SECONDS)
        assert (process.returncode, count_tasks(replicated)) == (0, TASKS + 1)
    finally:
        process.kill()
        process.communicate()
        backend.close()


def test_import_stopped_in_any_message_lets_others_write(replicated: ReplicatedCompany) -> None:
    with StoppingProxy(replicated.primary.port) as proxy:
        process = import_tasks(replicated, WITH_SHORT_LIMITS + POPUG, url_of(replicated, proxy))
        assert (process.wait(END_SECONDS), count_tasks(replicated)) == (0, TASKS)
        sent = proxy.passed_on
    random = Random(SEED)
    for _ in range(POINTS):
        stop_once(replicated, random.randrange(1, sent))


@pytest.mark.parametrize(
    ("work", "in_answer"),
    [pytest.param(LONG_STATEMENT, False, id="statement"), pytest.param(LONG_ANSWER, True, id="answer")],
)
def test_lock_released_after_stop_in_a_long_message(replicated: ReplicatedCompany, work: str, in_answer: bool) -> None:
    program = WITH_SHORT_LIMITS + TRANSACTION.format(work)
    backend = replicated.backend()
    with StoppingProxy(replicated.primary.port, counts_answers=in_answer) as proxy:
        proxy.stop_after = 100_000
        process = subprocess.Popen(
            [sys.executable, "-c", program, url_of(replicated, proxy)], stderr=subprocess.DEVNULL
        )
        proxy.pid = process.pid
        try:
            assert proxy.stopped.wait(END_SECONDS)
            began = time.monotonic()
            backend.perform(AddTask(title="Second"), replicated.tokens["ada"])
            assert time.monotonic() - began < MAX_SECONDS + SLACK_SECONDS
        finally:
            process.kill()
            process.communicate()
            backend.close()


def stop_once(company: ReplicatedCompany, stop_after: int) -> None:
    """Stop an import once the server has so many bytes: another process soon writes, and the import ends well."""
    before = count_tasks(company)
    backend = company.backend()
    with StoppingProxy(company.primary.port) as proxy:
        proxy.stop_after = stop_after
        process = import_tasks(company, WITH_SHORT_LIMITS + POPUG, url_of(company, proxy), first=before)
        proxy.pid = process.pid
        try:
            assert proxy.stopped.wait(END_SECONDS), process.communicate()
            began = time.monotonic()
            backend.perform(AddTask(title="Second"), company.tokens["ada"])
            assert time.monotonic() - began < MAX_SECONDS + SLACK_SECONDS, stop_after
            proxy.resume()
            answer = process.communicate(timeout=END_SECONDS)
            assert (process.returncode, count_tasks(company)) == (0, before + TASKS + 1), (stop_after, answer)
        finally:
            process.kill()
            process.communicate()
            backend.close()


def url_of(company: ReplicatedCompany, proxy: StoppingProxy) -> str:
    return f"postgresql://{OWNER}@{HOST}:{proxy.port}/{company.database}"
