"""One session of a chaos run: a cluster is started, gets rounds of faults while clients work, and is checked."""

import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import msgspec

from popug_cli.messages.billing import ExportLedger, GetBalance
from popug_cli.messages.tasks import ExportTasks
from tests.cluster import checker
from tests.cluster.chaos.bugs import ChaosBug
from tests.cluster.chaos.checks import State, check
from tests.cluster.chaos.clients import Client, make_clients
from tests.cluster.chaos.clock import DAY_SECONDS
from tests.cluster.chaos.drain import drain
from tests.cluster.chaos.faults import FAULTS, Heal, wait_for_brokers
from tests.cluster.chaos.history import History
from tests.cluster.chaos.one_process import compare
from tests.cluster.chaos.stage import ADMIN, SOUND, Stage
from tests.simulation.violation import Violation

ROUND_FAULTS = 10
BUG_ROUND_FAULTS = 4
PAUSE_SECONDS = (0.3, 1.5)
OVERLAP = 0.3  # the part of the faults that begin before the previous one is healed
JOIN_SECONDS = 240.0
Report = Callable[[dict[str, Any]], None]


class Session:
    """One cluster and its clients. ``report`` receives a document for each fault and each round."""

    def __init__(self, seed: str, folder: Path, report: Report, bug: ChaosBug = SOUND) -> None:
        self.seed, self.folder, self.bug = seed, folder, bug
        self._report = report
        self._chance = random.Random(seed)
        self._is_first = True

    def run(self, faults: int) -> str:
        """Inject the faults in rounds; return the first violation, or an empty text."""
        with ExitStack() as stack:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="popug-chaos-")))
            began = time.monotonic()
            stage = Stage(root, stack, self.bug)
            history = stack.enter_context(closing(History(self.folder / f"history-{self.seed}.jsonl", stage.clock)))
            self._report({"event": "started", "seconds": round(time.monotonic() - began, 1)})
            try:
                while faults > 0:
                    count = min(ROUND_FAULTS if self.bug is SOUND else BUG_ROUND_FAULTS, faults)
                    self._round(stage, history, count)
                    faults -= count
            except Violation as violation:
                return self._failed(stage, f"{violation.name}: {violation}")
            except Exception:
                return self._failed(stage, traceback.format_exc())
            return ""

    def _round(self, stage: Stage, history: History, count: int) -> None:
        clients = make_clients(stage.url, f"{self.seed}/{count}/{time.monotonic_ns()}", history, stage.clock,
                               lambda: self._is_first)  # fmt: skip
        self._is_first = False
        for client in clients:
            client.start()
        try:
            self._inject(stage, count)
        finally:
            for client in clients:
                client.stop()
        began = time.monotonic()
        for client in clients:
            client.join(max(0.0, JOIN_SECONDS - (time.monotonic() - began)))
            if client.is_alive():
                raise Violation("every_command_ends", client.name)
            if client.bugs:
                raise Violation("clients_understand_answers", str(client.bugs))
        self._require_healthy(stage)
        admin = next(client for client in clients if client.username == ADMIN)
        joined = time.monotonic()
        drain(stage, admin)
        drained = time.monotonic()
        state = check(stage)
        one = stage.folder / "one-process"
        shutil.copytree(stage.folder / "before", one)
        compare(stage, one)
        shutil.rmtree(one)
        observe(admin, history, state)
        problems = checker.check_file(self.folder / f"history-{self.seed}.jsonl")
        if problems:
            raise Violation("history", str(problems[:3]))
        self._report({
            "event": "round", "operations": dict(history.counts), "events": sum(map(len, state.events.values())),
            "days closed": len(state.tables["billing_days"]), "mails": len(state.tables["mail_outbox"]),
            "waited": round(joined - began, 1), "drained": round(drained - joined, 1),
            "checked": round(time.monotonic() - drained, 1),
        })  # fmt: skip

    def _inject(self, stage: Stage, count: int) -> None:
        """Inject faults one after another; some begin before the previous one is healed. Days pass between them."""
        kinds = self.bug.faults or tuple(FAULTS)
        weights = [FAULTS[kind][1] for kind in kinds]
        open_faults: list[Heal] = []
        try:
            for _ in range(count):
                time.sleep(self._chance.uniform(*PAUSE_SECONDS))
                kind = self._chance.choices(kinds, weights)[0]
                if open_faults and (kind in ("failover", "stop standby") or self._chance.random() > OVERLAP):
                    _heal(stage, open_faults)
                began = time.monotonic()
                what, heal = FAULTS[kind][0](stage, self._chance)
                open_faults.append(heal)
                if kind in ("failover", "stop standby"):
                    _heal(stage, open_faults)
                seconds = round(time.monotonic() - began, 1)
                self._report({"event": "fault", "kind": kind, "what": what, "seconds": seconds})
                if self._chance.random() < 1 / 3:
                    stage.clock.advance(DAY_SECONDS)
        finally:
            _heal(stage, open_faults)
        time.sleep(self._chance.uniform(*PAUSE_SECONDS))

    def _require_healthy(self, stage: Stage) -> None:
        for name, process in stage.processes.items():
            if "two_publishers" in process.log_text():
                raise Violation("history_unchanged", f"{name} reports two_publishers: its database has lost events")
        ended = [name for name, process in stage.processes.items() if not process.is_running]
        if ended:
            ends = {name: stage.processes[name].log_text()[-500:] for name in ended}
            raise Violation("no_process_ends_by_itself", str(ends))

    def _failed(self, stage: Stage, problem: str) -> str:
        """Keep what explains a failure; return the problem."""
        for file in stage.folder.glob("*.log"):
            (self.folder / f"{self.seed}-{file.name}").write_text(file.read_text(errors="replace"))
        return problem


def observe(admin: Client, history: History, state: State) -> None:
    """Write the whole ledger, all tasks and all balances into the history, as a client sees them."""
    lines: list[Any] = []
    while chunk := admin.ask(ExportLedger(after=lines[-1]["position"] if lines else 0)).lines:
        lines += msgspec.to_builtins(chunk)
    tasks: list[Any] = []
    while found := admin.ask(ExportTasks(after=tasks[-1]["number"] if tasks else 0)).tasks:
        tasks += msgspec.to_builtins(found)
    people = sorted({line["person"] for line in lines})
    assigned = {
        event["id"]: {"reason": event["data"]["reason"], "shuffle_id": event["data"].get("shuffle_id")}
        for event in state.of_type("tasks", "task_assigned")
    }
    balances = {name: admin.ask(GetBalance(username=name)).balance_cents for name in people}
    users = [row["username"] for row in state.tables["identity_users"]]
    history.observe(ledger=lines, tasks=tasks, balances=balances, assigned=assigned, users=users)


def _heal(stage: Stage, open_faults: list[Heal]) -> None:
    """Heal all open faults, then wait until all brokers are up."""
    while open_faults:
        open_faults.pop(0)()
    wait_for_brokers(stage)
