"""Each bug that is planted in the decision or in the relay is found by the model."""

from types import ModuleType
from typing import NamedTuple

import pytest

from popug_cli.bus import relay, streams
from tests.integration.bus.linked_logs import PLAIN, WITH_LOSSES, WITH_RESTORES, LinkedLogs, random_operations
from tests.integration.bus.planted_bugs import failures, planted

MAX_RUNS_PER_BUG = 3_000


class Bug(NamedTuple):
    """A text of a module, its replacement, the operations in which the model must find it, and what then fails."""

    module: ModuleType
    old: str
    new: str
    names: list[str]
    found: str


GAP = "return _replace(state, StreamVerdict.GAP, gap_since=state.gap_since or now)"
ACCEPT_EVENT = (
    "return _replace(state, StreamVerdict.ACCEPTED, last=record.position, last_id=record.id, gap_since=None)"
    " if isinstance(record, EventRecord) else "
)
WATERMARK_LAST = "return [*records, make_watermark_record(watermark)]"
BUGS = {
    "no check of previous": Bug(
        streams, GAP, ACCEPT_EVENT + GAP.removeprefix("return "), PLAIN, "two histories are mixed"
    ),
    "no check of previous_id": Bug(
        streams, "if record.previous_id != state.last_id:", "if False:", WITH_LOSSES, "two histories are mixed"
    ),
    "watermark before events": Bug(
        relay,
        WATERMARK_LAST,
        "return [make_watermark_record(replace(watermark, previous=claim.previous, previous_id=claim.previous_id)),"
        " *records]\nfrom msgspec.structs import replace",
        PLAIN,
        "the watermark is too far",
    ),
    "watermark sent first": Bug(
        relay,
        WATERMARK_LAST,
        "return [make_watermark_record(watermark), *records]",
        PLAIN,
        "the watermark is not raised",
    ),
    "includes with a watermark below the head": Bug(
        relay,
        "includes=claim.includes if claim.end == claim.head else None",
        "includes=claim.includes",
        PLAIN,
        "an included effect is missing",
    ),
    "log id ignored": Bug(
        streams,
        "if record.log_id != state.log_id:",
        "if False:",
        WITH_RESTORES,
        "not a prefix of the publisher's log",
    ),
    "event around the last one is a gap": Bug(
        streams,
        'return _history_changed(state, ChangeReason.LAST_MISSING, "", now)',
        GAP,
        WITH_LOSSES,
        "incomplete, and not noticed",
    ),
    "late watermark changes history": Bug(
        streams,
        "if isinstance(record, WatermarkRecord) and record.position < state.last:",
        "if False:",
        PLAIN,
        "false alarm",
    ),
    "duplicate of an event without subscription": Bug(
        streams,
        "if held_id is None or held_id == record.id:",
        "if held_id == record.id:",
        PLAIN,
        "false alarm",
    ),
    "watermark is lowered": Bug(
        streams,
        "watermark=max(state.watermark, record.position)",
        "watermark=record.position",
        PLAIN,
        "the watermark was lowered",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BUGS)
def test_planted_bug_is_found(name: str) -> None:
    bug = BUGS[name]
    found = failures(lambda random: logs_with(bug).run(random_operations(bug.names, random)), MAX_RUNS_PER_BUG)
    assert bug.found in found


def logs_with(bug: Bug) -> LinkedLogs:
    module = planted(bug.module, bug.old, bug.new)
    if bug.module is streams:
        return LinkedLogs(decide=module.__dict__["decide"])
    return LinkedLogs(records_of=module.__dict__["records_of"])
