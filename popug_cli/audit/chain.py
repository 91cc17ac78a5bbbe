"""The hash chain over the log, computed anew."""

from collections.abc import Iterator
from itertools import islice

from popug_cli.audit.reading import rows
from popug_cli.audit.verdict import SHOWN, verdict
from popug_cli.bus.chain import ORIGIN, Run
from popug_cli.bus.runtime import Context
from popug_cli.messages.company import Check


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
    for last, first, told in _links(context):
        if first <= end:
            yield f"link {last} overlaps the one before"
        run = Run(before)
        events = 0
        for sequence, envelope in _events(context, first, last):
            run.add(sequence, envelope.encode())
            events += 1
        if events != last - first + 1 or run.hash() != told:
            yield f"the events {first} to {last}"
        before, end = told, last


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


def _links(context: Context) -> Iterator[tuple[int, int, str]]:
    return rows(context, "SELECT last_sequence, first_sequence, hash FROM bus_links ORDER BY last_sequence")


def _events(context: Context, first: int, last: int) -> Iterator[tuple[int, str]]:
    statement = "SELECT sequence, envelope FROM bus_log WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
    return rows(context, statement, (first, last))
