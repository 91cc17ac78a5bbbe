"""A process that is stopped (SIGSTOP) during its transaction keeps the write lock for ten seconds at most."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from popug_cli.messages.tasks import AddTask
from tests.support.postgres.replicated import ReplicatedCompany

MAX_SECONDS = 10
SLACK_SECONDS = 5
# A stop during a COPY is not tried: no time-out of PostgreSQL ends a transaction that waits for the data of a COPY.
STOPS_BETWEEN_STATEMENTS = """
import os, signal

from popug_cli.__main__ import main
from popug_cli.bus.publisher import Publisher

flush, flushes = Publisher.flush, iter(range(1_000))

def stop_at_one(publisher):
    if next(flushes) == {stopped_at}:
        os.kill(os.getpid(), signal.SIGSTOP)
    flush(publisher)

Publisher.flush = stop_at_one
main()
"""


@pytest.mark.parametrize("stopped_at", [0, 5])
def test_stopped_import_keeps_the_lock_ten_seconds(replicated: ReplicatedCompany, stopped_at: int) -> None:
    lines = replicated.home.root.parent / "tasks.ndjson"
    lines.write_text("".join(json.dumps({"title": f"Task {number}"}) + "\n" for number in range(5_000)))
    environment = {"PATH": os.environ["PATH"], "HOME": str(lines.parent), "POPUG_TOKEN": replicated.tokens["ada"]}
    program = STOPS_BETWEEN_STATEMENTS.format(stopped_at=stopped_at)
    line = [sys.executable, "-c", program, "tasks", "import", str(lines), "--home", str(replicated.home.root)]
    backend = replicated.backend()
    backend.perform(AddTask(title="First"), replicated.tokens["ada"])
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert process.poll() is None, process.communicate()
        began = time.monotonic()
        backend.perform(AddTask(title="Second"), replicated.tokens["ada"])
        assert time.monotonic() - began < MAX_SECONDS + SLACK_SECONDS
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=120)
        assert process.returncode == 0
        count = "SELECT count(*) FROM tasks_tasks"
        assert replicated.primary.execute(count, database=replicated.database) == [(5_002,)]
    finally:
        process.kill()
        process.communicate()
        backend.close()
