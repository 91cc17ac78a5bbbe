"""A process that is stopped (SIGSTOP) during its transaction keeps the write lock for ten seconds at most."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from popug_cli.messages.tasks import AddTask
from tests.support.postgres.replicated import ReplicatedCompany

MAX_SECONDS = 10
SLACK_SECONDS = 5
HOLDER = "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND granted AND pid <> pg_backend_pid()"


@pytest.mark.parametrize("seed", [1, 2])
def test_stopped_import_keeps_the_lock_ten_seconds(replicated: ReplicatedCompany, seed: int) -> None:
    lines = replicated.home.root.parent / "tasks.ndjson"
    lines.write_text("".join(json.dumps({"title": f"Task {number}"}) + "\n" for number in range(5_000)))
    environment = {"PATH": os.environ["PATH"], "HOME": str(lines.parent), "POPUG_TOKEN": replicated.tokens["ada"]}
    line = [sys.executable, "-m", "popug_cli", "tasks", "import", str(lines), "--home", str(replicated.home.root)]
    backend, chance = replicated.backend(), random.Random(seed)
    backend.perform(AddTask(title="First"), replicated.tokens["ada"])
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        while not replicated.primary.execute(HOLDER, database=replicated.database):
            assert process.poll() is None, process.communicate()
        time.sleep(chance.random() / 3)
        process.send_signal(signal.SIGSTOP)
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
