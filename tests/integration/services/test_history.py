"""A service subscribes to a further name: it gets the history of the name, once, in the transaction of the change."""

import json
from pathlib import Path

import msgspec
import pytest

from popug_cli.audit.doctor import examine
from popug_cli.bus.service.history import (
    History,
    PastEvent,
    history_of,
    set_first_subscriptions,
    stored_subscriptions,
    subscribe,
)
from popug_cli.bus.streams import StreamVerdict
from popug_cli.kernel.errors import Conflict
from popug_cli.messages.identity import UserDeactivated
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import TaskCompleted
from tests.integration.services.linked_pair import OWN_LOG, REGISTERED, Link, make_link, publish
from tests.support.billing_company import created

V = StreamVerdict
DEACTIVATED = "popug.identity.user_deactivated"


@pytest.fixture
def link(tmp_path: Path) -> Link:
    made = make_link(tmp_path)
    with made.tasks.runtime.writing(OPERATOR) as context:
        set_first_subscriptions(context, "identity", REGISTERED)
    publish(made.identity, lambda context: context.events.publish(UserDeactivated(user_id="ann")))
    made.identity.publish("cid")
    publish(made.identity, lambda context: context.events.publish(UserDeactivated(user_id="cid")))
    made.identity.publish("dora")
    made.send()
    made.take()
    return made


def ask(link: Link, up_to: int | None = None, name: str = DEACTIVATED) -> History:
    """Ask the publisher as a query over the network does."""
    position = link.stream()[0].last if up_to is None else up_to
    with link.identity.runtime.reading(OPERATOR) as context:
        answer = history_of(context, name, position)
    return msgspec.json.decode(msgspec.json.encode(answer), type=History)


def add(link: Link, history: History) -> int:
    with link.tasks.runtime.writing(OPERATOR) as context:
        return subscribe(context, "identity", history)


def names(link: Link) -> set[str]:
    with link.tasks.runtime.reading(OPERATOR) as context:
        return stored_subscriptions(context, "identity")


def subjects(link: Link) -> list[str]:
    rows = link.tasks.rows("SELECT subject FROM bus_log WHERE type LIKE '%deactivated%' ORDER BY sequence")
    return [str(row["subject"]) for row in rows]


def is_sound(link: Link) -> bool:
    with link.tasks.runtime.reading(OPERATOR) as context:
        checks = {check.name: check for check in examine(context).checks}
    return checks["received_events_match_log"].ok and checks["streams_match_log"].ok and checks["hash_chain"].ok


def test_history_is_appended_with_the_subscription(link: Link) -> None:
    assert (names(link), subjects(link)) == (REGISTERED, [])
    history = ask(link)
    assert add(link, history) == 2
    assert (names(link), subjects(link)) == ({*REGISTERED, DEACTIVATED}, ["ann", "cid"])
    stored = link.tasks.rows("SELECT envelope FROM bus_log ORDER BY sequence DESC LIMIT 2")
    assert [row["envelope"] for row in stored][::-1] == [event.envelope for event in history.events]
    assert is_sound(link)
    link.tasks.catch_up()
    assert link.tasks.effects() == ["ann", "bob", "cid", "dora", "ann", "cid"]


def test_later_events_of_the_name_come_from_the_topic(link: Link) -> None:
    add(link, ask(link))
    publish(link.identity, lambda context: context.events.publish(UserDeactivated(user_id="dora")))
    link.send()
    assert link.take(names={*REGISTERED, DEACTIVATED}) == {V.ACCEPTED: 1, V.WATERMARK: 1}
    assert subjects(link) == ["ann", "cid", "dora"]
    assert link.take(offset=0, names={*REGISTERED, DEACTIVATED})[V.HISTORY_CHANGED] == 0
    assert is_sound(link)


def test_history_is_appended_once(link: Link) -> None:
    history = ask(link)
    assert [add(link, history), add(link, history)] == [2, 0]
    assert subjects(link) == ["ann", "cid"]


def test_killed_change_leaves_neither_name_nor_events(link: Link) -> None:
    history = ask(link)

    def is_killed_before_commit() -> None:
        with link.tasks.runtime.writing(OPERATOR) as context:
            assert subscribe(context, "identity", history) == 2
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        is_killed_before_commit()
    assert (names(link), subjects(link)) == (REGISTERED, [])


def test_history_without_events_changes_the_subscription(link: Link) -> None:
    assert add(link, ask(link, name="popug.identity.user_reactivated")) == 0
    assert "popug.identity.user_reactivated" in names(link)


def test_events_in_every_version_belong_to_the_history(link: Link) -> None:
    row = link.identity.rows("SELECT envelope FROM bus_log WHERE type LIKE '%deactivated%' LIMIT 1")[0]
    event = json.loads(str(row["envelope"]))
    (end,) = link.identity.rows("SELECT max(sequence) + 1 AS next FROM bus_log")
    newer = event | {"type": f"{DEACTIVATED}.v9", "id": "nine", "sequence": str(end["next"])}
    link.identity.append_unlinked(json.dumps(newer))
    link.send()
    link.take()
    assert [json.loads(past.envelope)["id"] for past in ask(link).events][-1] == "nine"
    add(link, ask(link))
    assert [error.code for error in link.tasks.catch_up().errors] == ["behind"]


def test_history_of_a_frequent_type_and_of_an_empty_log(link: Link) -> None:
    completed = TaskCompleted(task_id="t", assignee_id="ann", completed_at=link.identity.clock.now())
    publish(link.identity, lambda context: context.events.publish(completed))
    publish(link.identity, lambda context: context.events.publish(created("u", 1, "ann")))
    link.send()
    link.take()
    history = ask(link, name="popug.tasks.task_completed")
    assert [json.loads(event.envelope)["subject"] for event in history.events] == ["t"]
    history = ask(link, name="popug.tasks.task_created")  # whose frequent type is version 2
    assert [json.loads(event.envelope)["subject"] for event in history.events] == ["u"]
    assert ask(link, name="popug.tasks.task_assigned").events == []
    empty = ask(link, up_to=0)
    assert (empty.last_id, empty.events) == ("", [])


def test_history_refused_where_the_stream_has_moved(link: Link) -> None:
    history = ask(link)
    publish(link.identity, lambda context: context.events.publish(UserDeactivated(user_id="dora")))
    link.send()
    link.take()
    with pytest.raises(Conflict) as refused:
        add(link, history)
    assert refused.value.code == "stream_moved"
    assert names(link) == REGISTERED
    assert add(link, ask(link)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"log_id": OWN_LOG},
        {"last_id": "another"},
        {"name": "popug.identity.user_registered"},
    ],
)
def test_history_of_another_log_is_refused(link: Link, changes: dict[str, str]) -> None:
    with pytest.raises(Conflict) as refused:
        add(link, msgspec.structs.replace(ask(link), **changes))
    assert refused.value.code == "history_differs"
    assert (names(link), subjects(link)) == (REGISTERED, [])


def test_mangled_history_is_refused(link: Link) -> None:
    history = ask(link)
    (first, *_) = history.events
    for event in (PastEvent(first.position + 1, first.envelope), PastEvent(first.position, "{"), PastEvent(0, "{}")):
        with pytest.raises(Conflict) as refused:
            add(link, msgspec.structs.replace(history, events=[event]))
        assert refused.value.code == "history_differs"
    assert (names(link), subjects(link)) == (REGISTERED, [])


def test_history_with_other_events_is_refused(link: Link) -> None:
    history = ask(link)
    add(link, history)
    (first, *_) = history.events
    event = json.loads(first.envelope) | {"id": "another"}
    other = PastEvent(first.position, json.dumps(event, separators=(",", ":")))
    with pytest.raises(Conflict) as refused:
        add(link, msgspec.structs.replace(history, events=[other]))
    assert refused.value.code == "history_differs"


def test_stopped_stream_takes_no_history(link: Link) -> None:
    history = ask(link)
    link.tasks.execute(
        'UPDATE bus_streams SET history_change = \'{"reason":"other_id","position":1,"held_id":"a",'
        '"its_id":"b","found_at":"2026-03-02T09:00:00Z"}\''
    )
    with pytest.raises(Conflict):
        add(link, history)
