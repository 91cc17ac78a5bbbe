"""Dead letters: retry them or drop them."""

import json
from pathlib import Path
from typing import Any

import pytest

from popug_cli.bus import dead_letters
from popug_cli.bus.queries import ParkedEvent, list_parked_events
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import InvalidInput, NotFound
from popug_cli.messages.bus import RetryResult
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import BusFixture


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    """Two subjects whose first event is dead, with one event waiting behind each."""
    made = BusFixture(tmp_path / "home", failing={"ann", "bob"})
    made.publish("ann", "bob", "bob", "ann", "kim")
    for _ in range(5):
        made.catch_up(include_not_due=True)
    assert made.effects() == ["kim"]
    return made


def held(toy: BusFixture) -> list[tuple[str, int, str]]:
    with toy.runtime.reading(OPERATOR) as context:
        return [(each.subject, each.sequence, each.state) for each in list_parked_events(context)]


def heads(toy: BusFixture) -> list[ParkedEvent]:
    with toy.runtime.reading(OPERATOR) as context:
        return dead_letters.blocking_events(context)


def retry(toy: BusFixture, dead_id: int | None) -> RetryResult:
    with toy.runtime.writing(OPERATOR) as context:
        return dead_letters.retry(context, [toy.consumer], dead_id)


def drop(toy: BusFixture, dead_id: int, reason: str) -> ParkedEvent:
    with toy.runtime.writing(OPERATOR) as context:
        return dead_letters.drop(context, dead_id, reason)


def published(toy: BusFixture, kind: str) -> list[dict[str, Any]]:
    rows = toy.rows(f"SELECT envelope FROM bus_log WHERE type LIKE '%.{kind}.v%' ORDER BY sequence")
    return [json.loads(str(row["envelope"]))["data"] for row in rows]


def ids(toy: BusFixture) -> list[str]:
    return [str(row["id"]) for row in toy.rows("SELECT id FROM bus_log ORDER BY sequence")]


def test_dead_letters_are_heads_of_subjects_in_log_order(toy: BusFixture) -> None:
    assert held(toy) == [("ann", 1, "dead"), ("bob", 2, "dead"), ("bob", 3, "waiting"), ("ann", 4, "waiting")]
    assert [(each.subject, each.attempts, each.error) for each in heads(toy)] == [
        ("ann", 5, "RuntimeError: broken"),
        ("bob", 5, "RuntimeError: broken"),
    ]


def test_retry_drains_one_subject_and_is_published(toy: BusFixture) -> None:
    toy.failing = set()
    bob = heads(toy)[1]
    assert retry(toy, bob.id) == RetryResult(retried=2, still_dead=0)
    assert held(toy) == [("ann", 1, "dead"), ("ann", 4, "waiting")]
    assert published(toy, "dead_letter_retried") == [
        {"event_id": ids(toy)[1], "consumer": "toy", "sequence": 2, "done": True}
    ]


def test_all_dead_letters_are_retried_by_default(toy: BusFixture) -> None:
    toy.failing = {"ann"}
    assert retry(toy, None) == RetryResult(retried=2, still_dead=1)
    assert [(each["sequence"], each["done"]) for each in published(toy, "dead_letter_retried")] == [
        (1, False),
        (2, True),
    ]
    toy.failing = set()
    assert retry(toy, None) == RetryResult(retried=2, still_dead=0)
    assert held(toy) == []


def test_retried_letter_is_done_though_the_next_event_fails(toy: BusFixture) -> None:
    toy.execute("CREATE TRIGGER no_second BEFORE INSERT ON toy_effects WHEN (SELECT count(*) FROM toy_effects) = 2"
                " BEGIN SELECT RAISE(ABORT, 'no more'); END")  # fmt: skip
    toy.failing = set()
    assert retry(toy, heads(toy)[0].id) == RetryResult(retried=1, still_dead=1)
    assert published(toy, "dead_letter_retried")[0]["done"] is True
    assert held(toy)[-1] == ("ann", 4, "retrying")


def test_drop_is_published_and_next_event_is_due_at_once(toy: BusFixture) -> None:
    toy.clock.advance(hours=3)
    bob = heads(toy)[1]
    assert drop(toy, bob.id, " it  never\tfitted ") == bob
    assert toy.rows("SELECT state, due_at, error FROM bus_set_aside WHERE sequence IN (2, 3) ORDER BY sequence") == [
        {"state": "dropped", "due_at": None, "error": "it never fitted"},
        {"state": "retrying", "due_at": to_rfc3339(toy.clock.now()), "error": "waits"},
    ]
    assert held(toy) == [("ann", 1, "dead"), ("bob", 3, "retrying"), ("ann", 4, "waiting")]
    assert published(toy, "dead_letter_dropped") == [
        {"event_id": ids(toy)[1], "consumer": "toy", "sequence": 2, "reason": "it never fitted"}
    ]
    toy.failing = set()
    toy.catch_up()
    assert toy.effects() == ["kim", "bob"]


def test_only_first_of_several_waiting_events_is_due(toy: BusFixture) -> None:
    toy.publish("bob")
    toy.catch_up()
    drop(toy, heads(toy)[1].id, "no")
    assert [state for subject, _, state in held(toy) if subject == "bob"] == ["retrying", "waiting"]


def test_drop_for_one_consumer_leaves_letters_of_another(toy: BusFixture) -> None:
    toy.execute(
        "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, error, since)"
        " SELECT 'zoo', sequence, subject, state, attempts, error, since FROM bus_set_aside"
    )
    drop(toy, heads(toy)[0].id, "no")
    assert [
        row["state"] for row in toy.rows("SELECT state FROM bus_set_aside WHERE consumer = 'zoo' ORDER BY sequence")
    ] == [
        "dead",
        "dead",
        "waiting",
        "waiting",
    ]


@pytest.mark.parametrize("reason", ["", " \t", "x" * 501])
def test_reason_is_a_sentence(toy: BusFixture, reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        drop(toy, heads(toy)[0].id, reason)
    assert refused.value.code == "invalid_reason"
    assert refused.value.message == "A reason has 1 to 500 characters."
    assert refused.value.hint == "Say in a sentence why: --reason '…'."
    assert held(toy)[0] == ("ann", 1, "dead")


@pytest.mark.parametrize("reason", ["x", "x" * 500])
def test_reason_may_be_short_or_five_hundred_characters(toy: BusFixture, reason: str) -> None:
    drop(toy, heads(toy)[0].id, reason)
    assert published(toy, "dead_letter_dropped")[0]["reason"] == reason


def test_waiting_event_is_not_a_dead_letter(toy: BusFixture) -> None:
    (waiting,) = toy.rows("SELECT id FROM bus_set_aside WHERE sequence = 4")
    with pytest.raises(NotFound) as refused:
        retry(toy, int(str(waiting["id"])))
    assert refused.value.code == "dead_letter_not_found"
    assert refused.value.message == f"There is no dead letter {waiting['id']}."
    assert refused.value.hint == "Run `popug events dead` for all of them."
    assert refused.value.details == {"dead_id": waiting["id"]}


@pytest.mark.parametrize(
    ("found", "event_id"),
    [("x", "x"), ("x" * 64, "x" * 64), ("x" * 65, "sequence-7"), ("", "sequence-7"), (7, "sequence-7")],
)
def test_event_without_valid_id_is_named_by_its_position(found: object, event_id: str) -> None:
    row = ParkedEvent(1, "toy", 7, "ann", "dead", 1, "broken", json.dumps({"id": found}))
    assert dead_letters.event_id_of(row) == event_id
