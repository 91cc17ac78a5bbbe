"""The AsyncAPI document of the topics: it fits the official schema, and the records of a played day fit it."""

import json
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from popug_cli.bus.records import CONTENT_TYPE, TopicRecord
from popug_cli.bus.relay import Claim, OwnEvent, records_of
from popug_cli.bus.service.asyncapi import WATERMARK, document
from popug_cli.bus.stream_store import origin_of
from popug_cli.messages.base import EVENTS
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import ReplayEvents
from popug_cli.messages.identity import SetRole
from popug_cli.messages.schema import all_schemas
from popug_cli.messages.services import SERVICES
from popug_cli.messages.tasks import AddTask, CompleteTask, GetTask, ShuffleTasks
from popug_cli.messages.topics import published_events
from tests.support.company import InProcess

OFFICIAL_SCHEMA = json.loads((Path(__file__).parents[2] / "fixtures/asyncapi/schema-3.0.0.json").read_text())
DOCUMENT = document("0.1.0", "acme")
LOG = "0198f3c2-0000-7000-8000-00000000000a"
TASK_CREATED = "popug.tasks.task_created.v2"


@pytest.fixture(scope="module")
def official() -> Any:
    return jsonschema_rs.validator_for(OFFICIAL_SCHEMA)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[TopicRecord]:
    """Return the records of all events of a played day, and those of two watermarks."""
    company = InProcess(tmp_path_factory.mktemp("day") / "home")
    company.hire("ann")
    company.hire("bob")
    for number in range(1, 4):
        task = company.act("ann", AddTask(title=f"Task {number}", jira_id="POPUG-7" if number == 2 else None))
        company.act("boss", ShuffleTasks())
        company.act(company.act("boss", GetTask(number=task.number)).assignee, CompleteTask(number=task.number))
    company.act("boss", SetRole(username="bob", role="manager"))
    company.act("boss", ReplayEvents())
    company.clock.advance(days=1)
    company.act("boss", CloseDay(yesterday=True))
    events = [OwnEvent(**row) for row in company.rows("SELECT sequence AS position, id, envelope FROM bus_log")]
    claim = Claim(
        log_id=LOG,
        start=0,
        previous=0,
        previous_id="",
        events=events,
        is_drained=True,
        head=len(events),
        includes={"billing": 7},
        reached=len(events) + 1,
        last_sent=(events[-1].position, events[-1].id),
    )
    company.backend.close()
    return records_of(claim)


def validator_of(part: str) -> Any:
    """Return a validator for a schema inside the document, given by its JSON pointer."""
    return jsonschema_rs.Draft7Validator({**DOCUMENT, "$ref": f"#{part}"}, validate_formats=True)


def resolved(reference: dict[str, str]) -> Any:
    """Return what a reference of the document leads to."""
    found: Any = DOCUMENT
    for name in reference["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return resolved(found) if "$ref" in found else found


def message_name(record: TopicRecord) -> str:
    return dict(record.headers).get("ce_type", WATERMARK.encode()).decode()  # type: ignore[union-attr]


def test_document_fits_the_official_schema(official: Any) -> None:
    assert [f"{list(error.instance_path)}: {error.message}" for error in official.iter_errors(DOCUMENT)] == []


@pytest.mark.parametrize(
    "path", [("channels", "tasks", "messages"), ("operations", "tasks.send", "action"), ("components", "messages")]
)
def test_official_schema_refuses_a_faulty_document(official: Any, path: tuple[str, ...]) -> None:
    faulty = deepcopy(DOCUMENT)
    found = faulty
    for name in path[:-1]:
        found = found[name]
    found[path[-1]] = "nothing"
    assert not official.is_valid(faulty)


def test_channels_are_the_topics() -> None:
    assert {channel["address"] for channel in DOCUMENT["channels"].values()} == {f"acme.{name}" for name in SERVICES}
    for channel in DOCUMENT["channels"].values():
        binding = channel["bindings"]["kafka"]
        assert (binding["partitions"], binding["replicas"]) == (1, 3)
        assert binding["topicConfiguration"] == {
            "cleanup.policy": ["delete"],
            "max.message.bytes": 1_048_588,
            "message.timestamp.type": "LogAppendTime",
            "min.insync.replicas": 2,
            "retention.ms": 604_800_000,
            "unclean.leader.election.enable": False,
        }


def test_every_event_is_sent_by_a_service() -> None:
    sent = Counter(event.TYPE for service in SERVICES for event in published_events(service))
    assert set(sent) == set(EVENTS)
    assert sent[TASK_CREATED] == 1
    assert sent["popug.bus.dead_letter_dropped.v1"] == 4


def test_operations_are_the_subscriptions() -> None:
    received = {
        name: {resolved(message)["name"] for message in operation["messages"]}
        for name, operation in DOCUMENT["operations"].items()
        if operation["action"] == "receive"
    }
    assert set(received) == {
        f"{service}.receive.{origin}" for service, parts in SERVICES.items() for origin in parts.subscriptions
    }
    assert received["tasks.receive.billing"] == {"popug.billing.task_priced.v1", WATERMARK}
    assert received["mail.receive.billing"] == {
        "popug.billing.payout_made.v1",
        "popug.billing.payout_made.v2",
        "popug.billing.day_closed.v1",
        WATERMARK,
    }


def test_messages_of_an_operation_are_in_its_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        in_channel = {id(resolved(message)) for message in resolved(operation["channel"])["messages"].values()}
        assert {id(resolved(message)) for message in operation["messages"]} <= in_channel


def test_data_has_the_schema_that_events_schemas_prints() -> None:
    for type_, schema in all_schemas().items():
        printed = dict(schema["$defs"])
        own = printed.pop(schema["$ref"].rpartition("/")[2])
        for name, definition in {type_: own, **printed}.items():
            here = json.dumps(DOCUMENT["components"]["schemas"][name])
            assert here.replace("#/components/schemas/", "#/$defs/") == json.dumps(definition)


def test_records_of_a_played_day_fit(records: list[TopicRecord]) -> None:
    seen = Counter[str]()
    for record in records:
        name, parts = message_name(record), f"/components/messages/{message_name(record)}"
        headers = {key: value.decode() for key, value in record.headers if value is not None}
        validator_of(f"{parts}/headers").validate(headers)
        payload = "" if name == WATERMARK else msgspec.json.decode(record.value or b"")
        validator_of(f"{parts}/payload").validate(payload)
        key = None if record.key is None else record.key.decode()
        validator_of(f"{parts}/bindings/kafka/key").validate(key)
        seen[name] += 1
    assert seen[WATERMARK] == 2
    assert {TASK_CREATED, "popug.billing.payout_made.v2", "popug.mail.mail_sent.v1", "popug.tasks.day_ended.v1"} <= {
        *seen
    }
    assert len(seen) > 14


def test_events_of_a_played_day_are_in_their_channel(records: list[TopicRecord]) -> None:
    for record in records:
        if record.value:
            messages = DOCUMENT["channels"][origin_of(record.value.decode())]["messages"]
            assert message_name(record) in messages


@pytest.mark.parametrize(
    ("field", "value"),
    [("sequence", 7), ("sequence", "07"), ("source", "/popug/mail"), ("time", "noon"), ("data", {"task_id": "t"})],
)
def test_payload_with_a_fault_does_not_fit(records: list[TopicRecord], field: str, value: Any) -> None:
    record = next(record for record in records if message_name(record) == TASK_CREATED)
    payload = msgspec.json.decode(record.value or b"")
    validator = validator_of(f"/components/messages/{TASK_CREATED}/payload")
    validator.validate(payload)
    assert not validator.is_valid(payload | {field: value})


def test_content_types_are_named() -> None:
    messages = DOCUMENT["components"]["messages"]
    assert {message["contentType"] for name, message in messages.items() if name != WATERMARK} == {CONTENT_TYPE}
