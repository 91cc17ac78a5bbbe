"""`popug demo --brokers`: the sample day on five services; all that it makes is removed at its end."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.brokers import registered
from tests.cluster.kafka_programs import require_kafka
from tests.cluster.running_cluster import PROGRAM, wait_until
from tests.cluster.shared_brokers import RunningBrokers

require_kafka()

LIMIT_SECONDS = 120
STARTED = "gateway "


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a user; no process and no file of the demo may be left at the end."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    passed = {name: text for name, text in os.environ.items() if name.startswith("COVERAGE_")}
    yield passed | {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(temporary), "COLUMNS": "200"}
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes whose environment names a folder, but those that have ended."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(folder) in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().decode())
        except OSError:  # it has ended, or belongs to another account
            continue
    return found


def demo_topics(address: str) -> set[str]:
    from confluent_kafka.admin import AdminClient

    topics = AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=10).topics
    return {name for name in topics if name.startswith("popug-demo-")}


def start(environment: Mapping[str, str], *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, "demo", *options],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - of no thread
    )


def play(environment: Mapping[str, str], *options: str) -> tuple[int, str, str]:
    """Return the exit status, the output and the errors of a demo."""
    process = start(environment, *options)
    out, errors = process.communicate(timeout=LIMIT_SECONDS)
    return process.returncode, out, errors


def answer_of(document: Any, command: str) -> Any:
    return next(screen["answer"] for screen in document["screens"] if screen["command"].startswith(f"popug {command}"))


def test_day_is_played_on_five_services(brokers: RunningBrokers, environment: Mapping[str, str]) -> None:
    before = demo_topics(brokers.address)
    status, out, errors = play(environment, "--brokers", brokers.address, "--json")
    assert (status, errors) == (0, "")
    document = json.loads(out)
    refused = next(screen["answer"]["error"] for screen in document["screens"] if "error" in screen["answer"])
    assert refused["code"] == "task_reassigned"
    steps = answer_of(document, "events trace")["steps"]
    assert {step["service"] for step in steps} >= {"tasks", "billing"}
    entries = [step["detail"].partition(",")[0] for step in steps if step["event"] == "entry_posted"]
    assert entries == ["fee", "fee", "reward"]
    report = answer_of(document, "cluster status")
    assert report["is_intact"] is True
    assert report["problems"] == []
    wait_until(lambda: demo_topics(brokers.address) <= before)


def test_screens_name_processes_and_services(brokers: RunningBrokers, environment: Mapping[str, str]) -> None:
    status, out, errors = play(environment, "--brokers", brokers.address)
    assert (status, errors) == (0, "")
    for text in ("billing    process", "loses the race", "popug events trace", "popug cluster status", "removed now"):
        assert text in out, text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_demo_leaves_nothing(
    number: signal.Signals, brokers: RunningBrokers, environment: Mapping[str, str]
) -> None:
    before = demo_topics(brokers.address)
    process = start(environment, "--brokers", brokers.address)
    assert process.stdout is not None
    while not process.stdout.readline().startswith(STARTED):
        assert process.poll() is None
    process.send_signal(number)
    process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == (130 if number is signal.SIGINT else -number)
    wait_until(lambda: demo_topics(brokers.address) <= before)


def test_killed_demo_ends_its_services(brokers: RunningBrokers, environment: Mapping[str, str]) -> None:
    temporary = Path(environment["TMPDIR"])
    process = start(environment, "--brokers", brokers.address)
    assert process.stdout is not None
    while not process.stdout.readline().startswith(STARTED):
        assert process.poll() is None
    process.kill()
    process.communicate(timeout=LIMIT_SECONDS)
    wait_until(lambda: processes_of(temporary) == [])
    (left,) = temporary.iterdir()
    left.rename(temporary.parent / left.name)


def test_demo_ends_with_the_error_of_a_dead_service(brokers: RunningBrokers, environment: Mapping[str, str]) -> None:
    process = start(environment, "--brokers", brokers.address)
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith(STARTED):
        assert process.poll() is None
        if line.startswith("tasks "):
            os.kill(int(line.split()[2].rstrip(",")), signal.SIGKILL)
    out, errors = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 8
    assert "error: The service tasks" in errors
    assert "That was one day" not in out


def test_two_brokers_are_too_few(breakable_brokers: RunningBrokers, environment: Mapping[str, str]) -> None:
    breakable_brokers.stop(3)
    wait_until(lambda: registered(breakable_brokers.address_of(1)) == 2)
    begun = time.monotonic()
    status, out, errors = play(environment, "--brokers", breakable_brokers.address)
    assert (status, out) == (8, "")
    assert "need 3 Kafka brokers, and only 2 brokers" in errors
    assert time.monotonic() - begun < LIMIT_SECONDS
