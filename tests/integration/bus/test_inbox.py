"""The inbox keeps ranges; it gives the same answers as a row for each event and consumer."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from popug_cli.bus.consumers import process_next_batch
from popug_cli.bus.context import Context
from popug_cli.bus.inbox import mark_done, processed_sequences
from popug_cli.bus.status import bus_status, skipped_problems, states_of
from popug_cli.messages.base import EVENTS
from popug_cli.messages.identity import UserEmailChanged
from popug_cli.messages.principal import OPERATOR
from tests.support.bus_fixture import BusFixture, registration

POSITIONS = range(1, 41)
MAX_POSITION = 2**63 - 1
REGISTRATION = '{"type": "popug.identity.user_registered.v1"}'


@pytest.fixture
def toy(tmp_path: Path) -> BusFixture:
    return BusFixture(tmp_path / "home")


@pytest.fixture
def context(toy: BusFixture) -> Iterator[Context]:
    with toy.runtime.writing(OPERATOR) as opened:
        yield opened


def ranges(context: Context, consumer: str = "toy") -> list[tuple[int, int]]:
    statement = "SELECT first_sequence, last_sequence FROM bus_inbox WHERE consumer = ? ORDER BY 1"
    return [(first, last) for first, last in context.connection.select(statement, consumer)]


def set_aside(context: Context, sequence: int, state: str = "dead") -> None:
    context.connection.execute(
        "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, error, since)"
        " VALUES ('toy', ?, 'x', ?, 1, '', '')",
        sequence,
        state,
    )


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ([(1, 3), (4, 6)], [(1, 6)]),
        ([(4, 6), (1, 3)], [(1, 6)]),
        ([(1, 3), (5, 6)], [(1, 3), (5, 6)]),
        ([(1, 3), (5, 6), (4, 4)], [(1, 6)]),
        ([(1, 9), (3, 4)], [(1, 9)]),
        ([(3, 4), (6, 7), (9, 9), (1, 8)], [(1, 9)]),
        ([(3, 4), (1, 20)], [(1, 20)]),
        ([(3, 4), (5, 4)], [(3, 4)]),
        ([(1, 2), (MAX_POSITION, MAX_POSITION)], [(1, 2), (MAX_POSITION, MAX_POSITION)]),
        ([(MAX_POSITION, MAX_POSITION), (1, MAX_POSITION - 1)], [(1, MAX_POSITION)]),
    ],
)
def test_ranges_that_meet_are_joined(
    context: Context, marked: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    mark_done(context, "another", 1, 2)
    for first, last in marked:
        mark_done(context, "toy", first, last)
    assert ranges(context) == expected
    assert ranges(context, "another") == [(1, 2)]


@pytest.mark.parametrize("seed", range(30))
def test_ranges_answer_as_a_row_for_each_event(context: Context, seed: int) -> None:
    chance, done = Random(seed), set[int]()
    rows = [(position, "", "") for position in POSITIONS]
    for _ in range(25):
        first = chance.choice(POSITIONS)
        last = min(first + chance.choice([0, 0, 1, 5, 15]), POSITIONS[-1])
        aside = set(context.connection.column("SELECT sequence FROM bus_set_aside"))
        if chance.random() < 0.3 and first not in done | aside:
            set_aside(context, first, chance.choice(["dead", "dropped"]))
            continue
        if first in aside and chance.random() < 0.5:
            context.connection.execute("DELETE FROM bus_set_aside WHERE sequence = ?", first)
            aside, last = aside - {first}, first
        mark_done(context, "toy", first, last)
        done |= set(range(first, last + 1)) - aside
        kept = ranges(context)
        assert {position for start, end in kept for position in range(start, end + 1)} == done
        assert all(end + 1 < start for (_, end), (start, _) in pairwise(kept))
        dropped = set(context.connection.column("SELECT sequence FROM bus_set_aside WHERE state = 'dropped'"))
        asked = rows[chance.randrange(20) : chance.randrange(20, 41)]
        positions = {position for position, *_ in asked}
        assert processed_sequences(context, "toy", asked) == (done | dropped) & positions
        assert [states_of(context, p).get("toy") == "done" for p in POSITIONS] == [p in done for p in POSITIONS]
    assert processed_sequences(context, "toy", []) == set()


@pytest.mark.parametrize("seed", range(20))
def test_skipped_events_are_those_that_a_full_scan_finds(toy: BusFixture, seed: int) -> None:
    chance = Random(seed)
    with toy.runtime.writing(OPERATOR) as context:
        for number in range(30):
            if chance.random() < 0.3:
                context.events.publish(UserEmailChanged(user_id=f"u{number}", email="a@example.com"))
            else:
                context.events.publish(registration(f"u{number}"))
    toy.append_unlinked(REGISTRATION)
    with toy.runtime.writing(OPERATOR) as context:
        for _ in range(chance.randrange(6)):
            first = chance.randrange(1, 32)
            mark_done(context, "toy", first, first + chance.randrange(6))
        for sequence in {chance.randrange(1, 32) for _ in range(chance.randrange(4))}:
            if not states_of(context, sequence):
                set_aside(context, sequence)
        if seed:
            context.connection.execute("INSERT INTO bus_cursors VALUES ('toy', ?)", chance.randrange(34))
        if seed % 2:
            context.connection.execute("INSERT INTO bus_log (sequence, envelope) VALUES (-7, ?)", REGISTRATION)
        types = ", ".join(f"'{type_}'" for type_ in toy.consumer.types)
        [(count, first_skipped)] = context.connection.select(
            f"SELECT count(*), min(sequence) FROM bus_log log WHERE type IN ({types})"
            " AND sequence <= (SELECT position FROM bus_cursors WHERE consumer = 'toy')"
            " AND NOT EXISTS (SELECT 1 FROM bus_inbox WHERE consumer = 'toy'"
            " AND log.sequence BETWEEN first_sequence AND last_sequence)"
            " AND sequence NOT IN (SELECT sequence FROM bus_set_aside WHERE consumer = 'toy')"
        )
        skipped = "1 event" if count == 1 else f"{count} events"
        sentence = f"toy has skipped {skipped} without processing, the first at {first_skipped}."
        assert list(skipped_problems(context, [toy.consumer])) == ([sentence] if count else [])


@pytest.mark.parametrize("failing", ["", "b", "ac"])
def test_a_batch_is_a_range_without_its_parked_events(toy: BusFixture, failing: str) -> None:
    toy.failing = set(failing)
    toy.publish("a", "b", "c", "d", "b")
    process_next_batch(toy.runtime, toy.consumer)
    parked = {1: "a" in failing, 2: "b" in failing, 3: "c" in failing, 4: False, 5: "b" in failing}
    with toy.runtime.reading(OPERATOR) as context:
        done = {p for p in parked if states_of(context, p) == {"toy": "done"}}
        assert done == {p for p, is_parked in parked.items() if not is_parked}
    toy.failing = set()
    toy.catch_up(include_not_due=True)
    with toy.runtime.reading(OPERATOR) as context:
        assert ranges(context) == [(1, 5)]


def test_batches_and_skipped_events_make_one_range(toy: BusFixture) -> None:
    for round_ in range(5):
        toy.publish(*(f"u{round_}-{number}" for number in range(3)))
        with toy.runtime.writing(OPERATOR) as context:
            for number in range(120):
                context.events.publish(UserEmailChanged(user_id=f"u{number}", email="a@example.com"))
        toy.catch_up()
    with toy.runtime.reading(OPERATOR) as context:
        assert ranges(context) == [(1, 5 * 123)]


def test_unknown_types_are_those_that_a_full_scan_finds(toy: BusFixture) -> None:
    types = [*EVENTS, "popug.tasks.task_assigned.v2", "popug.tasks.task_renamed.v1", "", "x", "popug.tasks.task"]
    for type_ in [*types, *types[-3:]]:
        toy.append_unlinked(f'{{"type": "{type_}"}}')
    toy.append_unlinked('{"type": null}')
    toy.append_unlinked("{}")
    with toy.runtime.reading(OPERATOR) as context:
        known = ", ".join(f"'{type_}'" for type_ in EVENTS)
        expected = context.connection.select(
            "SELECT CASE WHEN type <> '' THEN type ELSE 'none' END, count(*) FROM bus_log"
            f" WHERE type IS NULL OR type NOT IN ({known}) GROUP BY type ORDER BY type"
        )
        assert len(expected) == 6
        assert [(each.type, each.count) for each in bus_status(context, [toy.consumer]).unknown] == expected
