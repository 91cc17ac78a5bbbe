"""Bugs planted in the links between services, to show that the simulation finds them."""

from tests.simulation.bugs import Bug, Change

LINKED_BUGS = {
    "offset-first": Bug(
        "the offset is stored and committed before the effect",
        (
            Change(
                "cluster/links.py",
                "            return Counter()\n        verdicts = replicator.take(",
                "            return Counter()\n"
                "        stream = stream_store.load(context.connection, origin)\n"
                "        stream = stream._replace(next_offset=records[-1][0] + 1)\n"
                "        stream_store.save(context.connection, origin, stream)\n"
                "    with runtime.writing(ANONYMOUS) as context:\n        verdicts = replicator.take(",
            ),
        ),
    ),
    "no-previous": Bug(
        "an event is accepted though events before it are missing",
        (
            Change(
                "bus/streams.py",
                "    if record.previous > state.last:\n",
                "    if record.previous > state.last and isinstance(record, WatermarkRecord):\n",
            ),
            Change(
                "bus/streams.py",
                "    if record.previous_id != state.last_id:\n",
                "    if record.previous_id != state.last_id and record.previous == state.last:\n",
            ),
        ),
    ),
    "no-previous-id": Bug(
        "only the position of the event before is compared, not its id",
        (Change("bus/streams.py", "    if record.previous_id != state.last_id:\n", "    if False:\n"),),
    ),
    "watermark-first": Bug(
        "a watermark is sent before the events that it vouches for",
        (
            Change(
                "bus/relay.py",
                "    return [*records, make_watermark_record(watermark)]\n",
                "    from msgspec.structs import replace\n"
                "    first = replace(watermark, previous=claim.previous, previous_id=claim.previous_id)\n"
                "    return [make_watermark_record(first), *records]\n",
            ),
        ),
    ),
    "two-relays": Bug(
        "what a second relay repeats is taken for another history",
        (
            Change(
                "bus/streams.py",
                "    if isinstance(record, EventRecord) and record.position <= state.last:\n",
                "    if isinstance(record, EventRecord) and record.position == state.last:\n",
            ),
        ),
    ),
    "claim-numbers": Bug(
        "the first record of a claim names no event before it",
        (
            Change(
                "bus/relay.py",
                "    previous, previous_id = claim.previous, claim.previous_id\n",
                '    previous, previous_id = 0, ""\n',
            ),
        ),
    ),
    "filter-by-type": Bug(
        "records of other names are left out before the decision",
        (
            Change(
                "bus/replicator.py",
                "    positions = [record.position",
                "    parsed = [\n"
                "        (offset, record) for offset, record in parsed\n"
                "        if not isinstance(record, EventRecord) or name_of(record.type) in subscriptions\n"
                "    ]\n"
                "    positions = [record.position",
            ),
        ),
    ),
    "log-id-ignored": Bug(
        "records of the log before a restore are taken",
        (Change("bus/streams.py", "    if record.log_id != state.log_id:\n", "    if False:\n"),),
    ),
    "log-id-kept": Bug(
        "a restore keeps the log ids",
        (
            Change(
                "bus/service/restore.py",
                "        *(log_ids[relay.service], position,",
                "        *(relay.log_id, position,",
            ),
            Change(
                "bus/service/restore.py",
                "state.with_log_id(log_ids[origin])",
                "state.with_log_id(state.log_id)",
            ),
        ),
    ),
    "own-topic-unread": Bug(
        "a relay does not look for events of another database in its own topic",
        (Change("bus/service/own_topic.py", "        if not _is_in_log(context, record):\n", "        if False:\n"),),
    ),
    "advance-to-head": Bug(
        "a relay that has sent a part of the log stores that it has sent all",
        (Change("bus/relay.py", "end=sent.end, start=sent.start)", "end=sent.head, start=sent.start)"),),
    ),
    "lost-event-late": Bug(
        "a record that contradicts the last accepted event is taken for a late one",
        (
            Change(
                "bus/streams.py",
                "    if isinstance(record, WatermarkRecord) and record.position < state.last:\n",
                "    if True:\n",
            ),
        ),
    ),
    "no-business-date": Bug(
        "billing enters an event under the date of its time, whatever tasks says",
        (Change("billing/days.py", "event.business_date or date_of(event.time)", "date_of(event.time)"),),
    ),
    "close-without-waiting": Bug(
        "a close does not wait until billing has consumed the end of the day",
        (
            Change(
                "app/workflows/close_between_services.py", "        if ended_by is not None:\n", "        if False:\n"
            ),
            Change("billing/close_day.py", "        if consumption is not Consumption.DONE:\n", "        if False:\n"),
        ),
    ),
    "includes-anywhere": Bug(
        "a watermark below the head of the log has includes as well",
        (
            Change(
                "bus/relay.py",
                "        includes=claim.includes if claim.end == claim.head else None,\n",
                "        includes=claim.includes,\n",
            ),
        ),
    ),
    "exact-version": Bug(
        "only events of the versions that the receiver knows are stored",
        (
            Change(
                "bus/replicator.py",
                "            and name_of(record.type) in subscriptions\n",
                "            and name_of(record.type) in subscriptions and record.type in EVENTS\n",
            ),
            Change(
                "bus/replicator.py",
                "from popug_cli.kernel.log import LOG\n",
                "from popug_cli.kernel.log import LOG\nfrom popug_cli.messages.base import EVENTS\n",
            ),
        ),
    ),
    "own-by-source": Bug(
        "the relay sends the events of its module, and not those of the bus that concern its consumers",
        (
            Change(
                "bus/relay.py",
                "WHERE received.sequence = bus_log.sequence)",
                "WHERE received.sequence = bus_log.sequence)"
                " AND json_extract(envelope, '$.source') = (SELECT '/popug/' || service FROM bus_relay)",
            ),
        ),
    ),
}
