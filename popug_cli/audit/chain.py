"""The hash chain over the log, computed anew."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from popug_cli.audit.verdict import SHOWN, verdict
from popug_cli.bus.chain import ORIGIN, Run
from popug_cli.bus.runtime import Context
from popug_cli.messages.company import Check

FETCH_ROWS = 1_000


def chain(context: Context) -> Check:
    """Whether every link has the hash that its events and the link before it give; names the head."""
    wrong = list(islice(broken_links(context), SHOWN + 1))
    head = context.log.head_hash() or ORIGIN
    found = verdict("hash_chain", f"the chain over the log is unbroken; its head is {head}", wrong)
    if found.ok and (loose := not_linked(context)):
        return Check(found.name, True, f"{found.detail}; not linked, since appended from outside: {_in_words(loose)}")
    return found


def is_part_of_history(context: Context, head: str) -> bool:
    """Whether the chain ever had this head."""
    statement = "SELECT 1 FROM bus_links WHERE hash = ? LIMIT 1"
    return head == ORIGIN or context.connection.exec_driver_sql(statement, (head,)).first() is not None


def broken_links(context: Context) -> Iterator[str]:
    """The links whose hash is not that of their events, in the order of the log."""
    before, end = ORIGIN, 0
    for link in _links(context):
        if link.first_sequence <= end:
            yield f"link {link.last_sequence} overlaps the one before"
        run = Run(before)
        events = 0
        for sequence, envelope in _events(context, link.first_sequence, link.last_sequence):
            run.add(sequence, envelope.encode())
            events += 1
        if events != link.last_sequence - link.first_sequence + 1 or run.hash() != link.hash:
            yield f"the events {link.first_sequence} to {link.last_sequence}"
        before, end = link.hash, link.last_sequence


def not_linked(context: Context) -> list[int]:
    """The positions that no link covers: what was appended from outside."""
    statement = (
        "SELECT sequence FROM bus_log log WHERE NOT EXISTS (SELECT 1 FROM bus_links link WHERE link.first_sequence ="
        " (SELECT max(first_sequence) FROM bus_links WHERE first_sequence <= log.sequence)"
        " AND link.last_sequence >= log.sequence) ORDER BY sequence"
    )
    return list(context.connection.exec_driver_sql(statement).scalars())


def _in_words(positions: list[int]) -> str:
    more = " and more" if len(positions) > SHOWN else ""
    return ", ".join(map(str, positions[:SHOWN])) + more


def _links(context: Context) -> Iterator[Any]:
    result = context.connection.exec_driver_sql("SELECT * FROM bus_links ORDER BY last_sequence")
    for part in result.partitions(FETCH_ROWS):
        yield from part


def _events(context: Context, first: int, last: int) -> Iterator[tuple[int, str]]:
    statement = "SELECT sequence, envelope FROM bus_log WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
    result = context.connection.exec_driver_sql(statement, (first, last))
    for part in result.partitions(FETCH_ROWS):
        yield from ((sequence, envelope) for sequence, envelope in part)
