"""What must hold in a drained cluster: ``popug cluster doctor``, and invariants between the services."""

import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable
from email.parser import BytesHeaderParser
from typing import Any

from popug_cli.messages.services import SERVICES
from tests.cluster.chaos.stage import RUN, Stage
from tests.simulation.violation import Violation, require

Row = tuple[Any, ...]
DOCTOR_SECONDS = 300
SIGNS = {"fee": -1, "reward": 1, "payout": -1, "fee_reversal": 1, "reward_reversal": -1}
SELECT_OWN = "SELECT envelope FROM bus_log WHERE sequence NOT IN (SELECT sequence FROM bus_received) ORDER BY sequence"


class State:
    """The tables and own events of the five services, read once."""

    def __init__(self, stage: Stage) -> None:
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, list[dict[str, Any]]] = {}
        for service in SERVICES:
            with stage.backend(service) as backend, backend.runtime.database.connection(writes=False) as connection:
                names = [name for (name,) in connection.select(
                    "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE ?",
                    f"{service}\\_%")]  # fmt: skip
                for name in names:
                    self.tables[name] = [dict(row) for row in connection.records(f"SELECT * FROM {name}")]
                self.events[service] = [json.loads(text) for (text,) in connection.select(SELECT_OWN)]

    def of_type(self, service: str, name: str) -> list[dict[str, Any]]:
        """Return a service's own events of a name."""
        return [event for event in self.events[service] if event["type"].startswith(f"popug.{service}.{name}.v")]


def check(stage: Stage) -> State:
    """Check everything; raise ``Violation`` for the first fault. Return the state that was read."""
    ask_doctor(stage)
    state = State(stage)
    _check_tasks(state)
    _check_entries(state)
    _check_days(state)
    _check_mails(state, stage)
    return state


def ask_doctor(stage: Stage) -> None:
    """Let ``popug cluster doctor`` check each service and all against each other."""
    done = subprocess.run(
        [*RUN, "cluster", "doctor", "--json"],
        env=stage.cluster.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=DOCTOR_SECONDS,
    )
    found = json.loads(done.stdout or "{}").get("checks", [])
    bad = [f"{check.get('service')} {check['name']}: {check['detail']}" for check in found if not check["ok"]]
    require(done.returncode == 0 and found and not bad, "doctor", f"{done.returncode} {bad} {done.stderr[-500:]}")


def _check_tasks(state: State) -> None:
    """Tasks, billing and analytics know the same tasks with the same prices and titles."""
    tasks = {row["task_id"]: (row["fee_cents"], row["reward_cents"]) for row in state.tables["tasks_tasks"]}
    billing = {row["task_id"]: (row["fee_cents"], row["reward_cents"]) for row in state.tables["billing_tasks"]}
    _require_equal("tasks_agree", tasks.items(), billing.items())
    titles = [
        {(row["task_id"], row["title"]) for row in state.tables[f"{name}_tasks"]} for name in ("tasks", "analytics")
    ]
    _require_equal("analytics_knows_tasks", *titles)
    people = {row["user_id"] for row in state.tables["identity_users"]}
    for table in ("tasks_people", "mail_receivers"):
        _require_equal(f"{table}_known", people, {row["user_id"] for row in state.tables[table]})


def _check_entries(state: State) -> None:
    """Each assignment has one fee, each completion one reward, of the task's price; balances are their sums."""
    prices = {row["task_id"]: row for row in state.tables["billing_tasks"]}
    expected: Counter[Row] = Counter()
    for name, kind in (("task_assigned", "fee"), ("task_completed", "reward")):
        for event in state.of_type("tasks", name):
            data = event["data"]
            amount = prices[data["task_id"]][f"{kind}_cents"]
            expected[kind, event["id"], data["assignee_id"], data["task_id"], amount] += 1
    rows = state.tables["billing_entries"]
    found = Counter(
        (row["kind"], row["event_id"], row["employee_id"], row["task_id"], row["amount_cents"])
        for row in rows if row["kind"] in ("fee", "reward")
    )  # fmt: skip
    _require_equal("entries_follow_from_assignments", expected.items(), found.items())
    sums: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        sums[row["employee_id"]] += SIGNS[row["kind"]] * row["amount_cents"]
    balances = {row["account_id"]: row["balance_cents"] for row in state.tables["billing_accounts"]}
    changed = {account: cents for account, cents in sums.items() if balances.get(account) != cents}
    require(not changed, "balances_are_sums", changed)
    require(sum(balances.values()) == 0, "accounts_sum_to_zero", balances)


def _check_days(state: State) -> None:
    """A closed day's payouts leave no positive balance, the day gets no later entry, and analytics has its income."""
    rows = sorted(state.tables["billing_entries"], key=lambda row: (str(row["business_date"]), row["position"]))
    closed = {str(row["business_date"]) for row in state.tables["billing_days"]}
    balances: defaultdict[str, int] = defaultdict(int)
    last_of_day: dict[tuple[str, str], int] = {}
    for row in rows:
        balances[row["employee_id"]] += SIGNS[row["kind"]] * row["amount_cents"]
        key = (row["employee_id"], str(row["business_date"]))
        last_of_day[key] = balances[row["employee_id"]]
        if row["kind"] == "payout":
            require(last_of_day[key] == 0, "payouts_leave_nothing", row)
    unpaid = {key: cents for key, cents in last_of_day.items() if key[1] in closed and cents > 0}
    require(not unpaid, "closed_days_are_paid", unpaid)
    income: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        change = income[str(row["business_date"])]
        change[0] += {"fee": 1, "fee_reversal": -1}.get(row["kind"], 0) * row["amount_cents"]
        change[1] += {"reward": 1, "reward_reversal": -1}.get(row["kind"], 0) * row["amount_cents"]
    analytics = {
        str(row["business_date"]): [row["fees_cents"], row["rewards_cents"]]
        for row in state.tables["analytics_days"] if row["fees_cents"] or row["rewards_cents"]
    }  # fmt: skip
    billed = {day: change for day, change in income.items() if any(change)}
    require(billed == analytics, "income_agrees", f"{billed} {analytics}")


def _check_mails(state: State, stage: Stage) -> None:
    """Each payout has one payslip, which was delivered at least once, always under its own Message-ID."""
    payouts = [
        (row["employee_id"], str(row["business_date"]), row["amount_cents"])
        for row in state.tables["billing_entries"] if row["kind"] == "payout"
    ]  # fmt: skip
    payslips = [row for row in state.tables["mail_outbox"] if row["kind"] == "payslip"]
    found = [(row["user_id"], str(row["business_date"]), row["amount_cents"]) for row in payslips]
    require(sorted(payouts) == sorted(found), "payouts_have_payslips", f"{len(payouts)} {len(found)}")
    unsent = [row["mail_id"] for row in state.tables["mail_outbox"] if row["status"] != "sent"]
    require(not unsent, "mail_is_sent", unsent)
    delivered: Counter[str] = Counter()
    receivers: defaultdict[str, set[str]] = defaultdict(set)
    for file in stage.folder.rglob("new/*"):
        with file.open("rb") as content:
            mail = BytesHeaderParser().parse(content)
        delivered[mail["Message-ID"].strip("<>")] += 1
        receivers[f"{mail['To']} {mail['Subject']}"].add(mail["Message-ID"])
    known = {row["message_id"].strip("<>") for row in state.tables["mail_outbox"]}
    _require_equal("mails_are_delivered", known, set(delivered))
    twice = {name: ids for name, ids in receivers.items() if len(ids) > 1}
    require(not twice, "one_message_id_a_mail", twice)


def _require_equal(rule: str, expected: Iterable[Any], found: Iterable[Any]) -> None:
    missing, odd = [sorted(map(repr, a - b)) for a, b in _both(set(expected), set(found))]
    if missing or odd:
        raise Violation(rule, f"{len(missing)} missing {missing[:2]}, {len(odd)} too many {odd[:2]}")


def _both(expected: set[Any], found: set[Any]) -> tuple[tuple[set[Any], set[Any]], ...]:
    return (expected, found), (found, expected)
