"""A current consumer skips a great many unrelated events; any other consumer does not."""

import json
from pathlib import Path

import pytest

from popug_cli.bus.consumers import Consumer, process_next_batch
from popug_cli.bus.context import Context
from popug_cli.bus.cursors import MIN_SKIPPED_EVENTS, skip_unrelated
from popug_cli.bus.unlinked_events import MAX_ID_CHARACTERS, MAX_SHOWN_PROBLEMS, first_sentences, problems_of_unlinked
from popug_cli.messages.identity import UserEmailChanged, UserRegistered
from popug_cli.messages.principal import OPERATOR
from tests.support.billing_company import created
from tests.support.bus_fixture import BusFixture, registration


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


def moves(count: int, context: Context) -> None:
    for number in range(count):
        context.events.publish(UserEmailChanged(user_id="ann", email=f"{number}@example.com"))


def cursor(toy: BusFixture) -> int:
    rows = toy.rows("SELECT position FROM bus_cursors WHERE consumer = 'toy'")
    return int(str(rows[0]["position"])) if rows else 0


def test_current_consumer_skips_many_unrelated_events(toy: BusFixture) -> None:
    with toy.runtime.writing(OPERATOR) as context:
        moves(MIN_SKIPPED_EVENTS, context)
        skip_unrelated(context, [toy.consumer])
    assert cursor(toy) == MIN_SKIPPED_EVENTS


def test_few_unrelated_events_are_not_skipped(toy: BusFixture) -> None:
    with toy.runtime.writing(OPERATOR) as context:
        moves(MIN_SKIPPED_EVENTS - 1, context)
        skip_unrelated(context, [toy.consumer])
    assert cursor(toy) == 0


def test_consumer_with_an_event_among_them_does_not_skip(toy: BusFixture) -> None:
    with toy.runtime.writing(OPERATOR) as context:
        context.events.publish(registration("ann"))
        moves(MIN_SKIPPED_EVENTS, context)
        skip_unrelated(context, [toy.consumer])
    toy.catch_up()
    assert toy.effects() == ["ann"]


def test_consumer_behind_does_not_skip(toy: BusFixture) -> None:
    toy.publish("ann")
    with toy.runtime.writing(OPERATOR) as context:
        moves(MIN_SKIPPED_EVENTS, context)
        skip_unrelated(context, [toy.consumer])
    assert cursor(toy) == 0
    toy.catch_up()
    assert toy.effects() == ["ann"]


def test_events_published_by_a_consumer_are_skipped_by_others(toy: BusFixture) -> None:
    talker = Consumer("talker", (UserRegistered,), lambda events, context: moves(MIN_SKIPPED_EVENTS, context))
    toy.publish("ann")
    toy.catch_up()
    process_next_batch(toy.runtime, talker, [toy.consumer])
    assert cursor(toy) == 1 + MIN_SKIPPED_EVENTS


def envelope(toy: BusFixture, subject: str, **data: object) -> str:
    (row,) = toy.rows("SELECT envelope FROM bus_log ORDER BY sequence LIMIT 1")
    document = json.loads(str(row["envelope"]))
    return json.dumps(document | {"id": f"from-outside-{subject}", "subject": subject, "data": document["data"] | data})


def complete_from_outside(toy: BusFixture, assignee_id: str) -> None:
    completed = json.loads(envelope(toy, "t1")) | {
        "source": "/popug/tasks",
        "type": "popug.tasks.task_completed.v1",
        "data": {"task_id": "t1", "assignee_id": assignee_id, "completed_at": "2026-03-02T09:00:00Z"},
    }
    completed.pop("dataschema", None)
    toy.append_unlinked(json.dumps(completed))


def odd(toy: BusFixture) -> list[str]:
    with toy.runtime.reading(OPERATOR) as context:
        return list(problems_of_unlinked(context))


def test_odd_event_from_outside_is_named_with_its_position(toy: BusFixture) -> None:
    toy.publish("ann")
    toy.append_unlinked(envelope(toy, "ann"))
    assert odd(toy) == []
    toy.append_unlinked(envelope(toy, "bob"))
    toy.append_unlinked(envelope(toy, "eve", user_id=7))
    subject, schema = odd(toy)
    assert subject == "The event at 3 has the subject bob, not ann."
    assert schema.startswith("The event at 4 does not fit its schema: ")


def test_event_from_outside_with_unknown_user_and_task_is_odd(toy: BusFixture) -> None:
    toy.publish("ann")
    complete_from_outside(toy, "zoe")
    assert odd(toy) == [
        "The event at 2 names zoe, whom no event has registered.",
        "The event at 2 names the task t1, which no event has created.",
    ]


def test_event_from_outside_with_known_user_and_task_is_not_odd(toy: BusFixture) -> None:
    toy.publish("ann")
    with toy.runtime.writing(OPERATOR) as context:
        context.events.publish(created("t1", 1, "ann"))
    complete_from_outside(toy, "ann")
    assert odd(toy) == []


@pytest.mark.parametrize("letters", [MAX_ID_CHARACTERS, MAX_ID_CHARACTERS + 1])
def test_long_subject_is_shortened(toy: BusFixture, letters: int) -> None:
    toy.publish("ann")
    toy.append_unlinked(envelope(toy, "b" * letters))
    (said,) = odd(toy)
    end = "…" if letters > MAX_ID_CHARACTERS else ""
    assert said == f"The event at 2 has the subject {'b' * MAX_ID_CHARACTERS}{end}, not ann."


def test_number_of_sentences_is_limited() -> None:
    many = (str(number) for number in range(10 * MAX_SHOWN_PROBLEMS))
    assert first_sentences(many) == [*map(str, range(MAX_SHOWN_PROBLEMS)), "There are more events like these."]
    assert next(many) == str(MAX_SHOWN_PROBLEMS + 1)
    assert first_sentences(str(number) for number in range(MAX_SHOWN_PROBLEMS)) == [
        *map(str, range(MAX_SHOWN_PROBLEMS))
    ]
