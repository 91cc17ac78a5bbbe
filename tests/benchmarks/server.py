"""A resident server under the load of 64 connections: writes, concurrent reads, memory.

``python -m tests.benchmarks.server [--seconds 60] [--rounds 3] [--requests 100000]`` needs ``wrk`` (Debian's packages).
Writes are compared with the same commands performed one after the other in this process, on a copy of the same home.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.tasks import AddTask
from tests.support.running_server import RunningServer, create_home

CONNECTIONS = 64
READERS = 8
WRITE = '{"title":"Feed the cage"}'
READ = '{"username":"kesha"}'
SCRIPT = """
wrk.method = "POST"
wrk.body = '{body}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {token}"
"""


@dataclass(frozen=True)
class Load:
    """Results of wrk: answers per second, failures, and latencies in milliseconds."""

    rate: float
    errors: int
    p50_ms: float
    p99_ms: float


class Bench:
    """One served home, and its copy for writes in process."""

    def __init__(self, folder: Path) -> None:
        self.residence = create_home(folder / "home")
        shutil.copytree(folder / "home", folder / "copy")
        self.copy = LocalBackend(Home(folder / "copy"))
        self.folder = folder

    def in_process(self, seconds: float) -> float:
        """Return the tasks per second that one thread adds with a token, consumers included."""
        token, done, began = self.residence.tokens["kesha"], 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            self.copy.perform(AddTask(title="Feed the cage"), token)
            done += 1
        return done / (time.perf_counter() - began)

    def load(self, served: RunningServer, route: str, body: str, connections: int, seconds: float) -> Load:
        """Let wrk send one message repeatedly."""
        token = self.residence.tokens["asya" if body == READ else "kesha"]
        script = self.folder / f"{route.rpartition('/')[2]}.lua"
        script.write_text(SCRIPT.format(body=body, token=token))
        command = ["wrk", "-t2", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "--latency", "-s"]
        url = f"http://127.0.0.1:{served.port}/v1/{route}"
        done = subprocess.run([*command, str(script), url], capture_output=True, text=True, check=True)
        return understood(done.stdout)


def understood(report: str) -> Load:
    """Parse a report of wrk."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    assert rate, report
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", report)
    others = re.search(r"Non-2xx or 3xx responses: (\d+)", report)
    errors = sum(map(int, socket_errors.groups())) if socket_errors else 0
    return Load(
        float(rate[1]), errors + (int(others[1]) if others else 0), _percentile(report, 50), _percentile(report, 99)
    )


def _percentile(report: str, which: int) -> float:
    found = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s|m)\s*$", report, re.MULTILINE)
    assert found, report
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}[found[2]]


def memory_mib(served: RunningServer) -> float:
    """Return the memory that the server's process has in use."""
    status = Path(f"/proc/{served.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def rounds(bench: Bench, served: RunningServer, seconds: float, count: int) -> None:
    """Interleave rounds: in process, 64 writing connections, 56 writing with 8 reading."""
    rows: list[tuple[float, Load, Load, Load]] = []
    for _ in range(count):
        alone = bench.in_process(seconds / 2)
        writes = bench.load(served, "tasks/add_task", WRITE, CONNECTIONS, seconds)
        with ThreadPoolExecutor(1) as pool:
            beside = pool.submit(bench.load, served, "tasks/add_task", WRITE, CONNECTIONS - READERS, seconds)
            reads = bench.load(served, "billing/get_balance", READ, READERS, seconds)
            rows.append((alone, writes, beside.result(), reads))
        say(f"  round: in process {alone:.0f}/s, {writes}, beside {rows[-1][2]}, reads {reads}")
    alone = statistics.median(row[0] for row in rows)
    rate = statistics.median(row[1].rate for row in rows)
    say(f"\nin process, one after the other    {alone:8.0f} tasks a second")
    say(f"over HTTP, {CONNECTIONS} connections         {rate:8.0f} tasks a second, {rate / alone:.2f} x")
    say(f"errors                             {sum(row[1].errors + row[2].errors + row[3].errors for row in rows):8d}")
    p99 = statistics.median(row[3].p99_ms for row in rows)
    p50 = statistics.median(row[3].p50_ms for row in rows)
    read = statistics.median(row[3].rate for row in rows)
    say(f"reads beside writes                {read:8.0f} a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def memory(bench: Bench, served: RunningServer, requests: int) -> None:
    """Measure memory over many requests, half of them writes."""
    done, began = 0.0, time.monotonic()
    while done < requests:
        for route, body in (("tasks/add_task", WRITE), ("billing/get_balance", READ)):
            began = time.monotonic()
            load = bench.load(served, route, body, CONNECTIONS, 10)
            done += load.rate * (time.monotonic() - began)
        say(f"after {done:9,.0f} requests             {memory_mib(served):8.0f} MiB")


def say(line: str) -> None:
    """Return one line of the table."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def machine() -> str:
    """Return the commit and the machine in one line."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    load = Path("/proc/loadavg").read_text().split()[0]
    name, python = model[1] if model else "?", sys.version.split()[0]
    return f"{commit.stdout.strip()}, {cores} x {name}, Python {python}, load {load}"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=0, help="look at the memory over so many requests")
    options = parser.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed: apt-get install wrk")
    say(machine())
    with TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        with RunningServer(bench.residence.home.root, "--listen", "127.0.0.1:0") as served:
            say(f"at the start                       {memory_mib(served):8.0f} MiB")
            rounds(bench, served, options.seconds, options.rounds)
            say(f"after all rounds                   {memory_mib(served):8.0f} MiB")
            memory(bench, served, options.requests)
            assert served.end() == 0, served.err


if __name__ == "__main__":
    main()
