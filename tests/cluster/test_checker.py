"""The checker of histories finds each planted fault, and none in a sound history."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import checker

Documents = list[dict[str, Any]]
FIRST_DAY, SECOND_DAY = "2026-12-01", "2026-12-02"


def line(
    position: int, kind: str, cents: int, day: str, number: int = 1, corrects: str | None = None
) -> dict[str, Any]:
    task = None if kind == "payout" else {"number": number, "title": f"task {number}"}
    return {
        "position": position, "entry_id": f"entry {position}", "event_id": f"event {position}", "kind": kind,
        "business_date": day, "person": "ann", "amount_cents": cents, "task": task, "corrects": corrects,
    }  # fmt: skip


def entries(*positions: int) -> dict[str, Any]:
    return {"entries": [{"entry_id": f"entry {position}"} for position in positions], "closing_balance_cents": 2000}


def closed(day: str, income: int, *payouts: int) -> dict[str, Any]:
    paid = [{"username": "ann", "amount_cents": cents} for cents in payouts]
    return {"days": [{"business_date": day, "already_closed": False, "income_cents": income, "payouts": paid}]}


def sound_history() -> Documents:
    """Ann adds, completes and is paid; after the close she adds a task, which counts for the second day."""
    documents: Documents = []

    def do(client: str, op: str, answer: Any, event: str = "ok", **args: Any) -> None:
        number = len(documents) // 2 + 1
        at = float(number)
        documents.append(
            {"id": number, "event": "invoke", "client": client, "op": op, "args": args, "at": at, "date": FIRST_DAY}
        )
        documents.append({"id": number, "event": event, "answer": answer, "warnings": [], "at": at + 0.5,
                          "date": FIRST_DAY})  # fmt: skip

    do("ann", "balance", {"balance_cents": 0}, username="ann")
    do("ann", "add", {"number": 1}, title="task 1")
    do("ann", "balance", {"balance_cents": -1000}, username="ann")
    do("ann", "complete", {"number": 1}, number=1)
    do("ann", "statement", entries(1, 2), username="ann")
    do("carl", "close", closed(FIRST_DAY, -2000, 2000), day=FIRST_DAY)
    do("carl", "balance", {"balance_cents": 0}, username="ann")
    do("ann", "add", {"number": 2}, title="task 2")
    do("mia", "shuffle", {"shuffle_id": "s1", "task_count": 1})
    do("ada", "correct", {}, entry_id="entry 4")
    do("ann", "add", None, "refused", title="task 3")
    do("ann", "balance", {"balance_cents": -1000}, username="ann")
    ledger = [
        line(1, "fee", 1000, FIRST_DAY),
        line(2, "reward", 3000, FIRST_DAY),
        line(3, "payout", 2000, FIRST_DAY),
        line(4, "fee", 1000, SECOND_DAY, 2),
        line(5, "fee", 1000, SECOND_DAY, 2),
        line(6, "fee_reversal", 1000, SECOND_DAY, 2, "entry 4"),
    ]
    created, shuffled = {"reason": "created", "shuffle_id": None}, {"reason": "shuffled", "shuffle_id": "s1"}
    final = {
        "event": "final", "at": 20.0, "date": FIRST_DAY, "ledger": ledger, "balances": {"ann": -1000},
        "tasks": [{"number": number, "title": f"task {number}"} for number in (1, 2)],
        "assigned": {"event 1": created, "event 4": created, "event 5": shuffled},
    }  # fmt: skip
    return [*copy.deepcopy(documents), copy.deepcopy({**final, "ledger": ledger[:5]}), copy.deepcopy(final)]


def outcome(documents: Documents, number: int) -> dict[str, Any]:
    return next(each for each in documents if each.get("id") == number and each["event"] != "invoke")


def lost_command(documents: Documents) -> None:
    documents[-1]["tasks"].pop()


def task_added_twice(documents: Documents) -> None:
    documents[-1]["tasks"].append({"number": 3, "title": "task 2"})


def refused_but_done(documents: Documents) -> None:
    outcome(documents, 8)["event"] = "refused"


def second_fee(documents: Documents) -> None:
    documents[-1]["assigned"]["event 5"]["reason"] = "created"


def second_reward(documents: Documents) -> None:
    documents[-1]["ledger"].append(line(7, "reward", 3000, SECOND_DAY))


def reward_without_completion(documents: Documents) -> None:
    documents[-1]["ledger"].append(line(7, "reward", 3000, SECOND_DAY, 2))


def lost_completion(documents: Documents) -> None:
    del documents[-1]["ledger"][1]


def correction_twice(documents: Documents) -> None:
    documents[-1]["ledger"].append(line(7, "fee_reversal", 1000, SECOND_DAY, 2, "entry 4"))


def shuffle_in_part(documents: Documents) -> None:
    outcome(documents, 9)["answer"]["task_count"] = 2


def wrong_balance(documents: Documents) -> None:
    documents[-1]["balances"]["ann"] = 0


def ledger_rewritten(documents: Documents) -> None:
    documents[-2]["ledger"][0]["entry_id"] = "another"


def balance_of_no_order(documents: Documents) -> None:
    outcome(documents, 3)["answer"]["balance_cents"] = -500


def own_write_not_read(documents: Documents) -> None:
    outcome(documents, 3)["answer"]["balance_cents"] = 0


def read_goes_back(documents: Documents) -> None:
    outcome(documents, 5)["answer"]["entries"].pop()
    outcome(documents, 5)["answer"]["closing_balance_cents"] = -1000


def read_of_the_future(documents: Documents) -> None:
    outcome(documents, 1)["answer"]["balance_cents"] = -1000


def other_client_goes_back(documents: Documents) -> None:
    """Carl, who has written nothing that changes it, reads the balance before the payout again."""
    documents.insert(-2, {**documents[12], "id": 99, "at": 13.0})
    documents.insert(-2, {**documents[13], "id": 99, "at": 13.5, "answer": {"balance_cents": 2000}})


def entered_into_closed_day(documents: Documents) -> None:
    documents[-1]["ledger"][3]["business_date"] = FIRST_DAY


def put_off_without_close(documents: Documents) -> None:
    documents[-1]["ledger"][0]["business_date"] = SECOND_DAY


def paid_another_sum(documents: Documents) -> None:
    outcome(documents, 6)["answer"]["days"][0]["payouts"][0]["amount_cents"] = 1900


def other_income(documents: Documents) -> None:
    outcome(documents, 6)["answer"]["days"][0]["income_cents"] = 0


FAULTS: dict[Callable[[Documents], None], str] = {
    lost_command: "check_tasks",
    task_added_twice: "check_tasks",
    refused_but_done: "check_tasks",
    second_fee: "check_tasks",
    second_reward: "check_effects",
    reward_without_completion: "check_effects",
    lost_completion: "check_effects",
    correction_twice: "check_effects",
    shuffle_in_part: "check_effects",
    wrong_balance: "check_money",
    ledger_rewritten: "check_append_only",
    balance_of_no_order: "check_reads",
    own_write_not_read: "check_reads",
    read_goes_back: "check_reads",
    read_of_the_future: "check_reads",
    other_client_goes_back: "check_reads",
    entered_into_closed_day: "check_closes",
    put_off_without_close: "check_closes",
    paid_another_sum: "check_closes",
    other_income: "check_closes",
}


def test_sound_history_is_explained() -> None:
    assert checker.check(sound_history()) == []


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_planted_fault_is_found(plant: Callable[[Documents], None]) -> None:
    documents = sound_history()
    plant(documents)
    assert FAULTS[plant] in {problem.partition(":")[0] for problem in checker.check(documents)}


def test_warned_read_is_exempt_from_own_writes() -> None:
    documents = sound_history()
    own_write_not_read(documents)
    outcome(documents, 3)["warnings"] = ["behind"]
    assert checker.check(documents) == []


def test_command_in_doubt_may_be_done_or_not() -> None:
    documents = sound_history()
    for number in (8, 11):
        outcome(documents, number)["event"] = "doubt"
    assert checker.check(documents) == []


def test_checker_runs_without_popug(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in sound_history()))
    line = [sys.executable, "-I", checker.__file__, str(file)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "The history is explained.\n")
    assert "popug_cli" not in Path(checker.__file__).read_text().replace("imports nothing of popug", "")
