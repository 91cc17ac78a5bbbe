"""Bugs planted for chaos runs, which must find each of them."""

from typing import NamedTuple

from tests.simulation.bugs import Change
from tests.simulation.linked.bugs import LINKED_BUGS


class ChaosBug(NamedTuple):
    """A bug: its description, and what plants it: changes of a copy of the program, or a setting of the databases.

    ``faults`` are the kinds of faults that a run to find it consists of; all kinds if it is empty.
    """

    what: str
    changes: tuple[Change, ...] = ()
    is_asynchronous: bool = False
    faults: tuple[str, ...] = ()


def _linked(name: str, *faults: str) -> ChaosBug:
    """Return a bug that the simulation of linked homes plants, too."""
    return ChaosBug(LINKED_BUGS[name].what, LINKED_BUGS[name].changes, faults=faults)


LATER = "    with runtime.writing(ANONYMOUS) as context:\n        verdicts"  # the second transaction of offset-first
BUGS: dict[str, ChaosBug] = {
    "asynchronous": ChaosBug(
        "commits wait for no standby, and the primary fails over", is_asynchronous=True, faults=("failover",)
    ),
    "lock-kept": ChaosBug(
        "the database does not end the sessions of a stopped service, which keeps the write lock",
        (
            Change(
                "storage/postgres/session.py",
                "idle_in_transaction_session_timeout = '10s'",
                "idle_in_transaction_session_timeout = 0",
            ),
        ),
        faults=("stop in transaction",),
    ),
    "two-relays": _linked("two-relays", "repeat records", "kill leader"),
    "offset-first": ChaosBug(
        f"{LINKED_BUGS['offset-first'].what}, half a second earlier",
        tuple(
            change._replace(new=change.new.replace(LATER, f"    import time\n\n    time.sleep(0.5)\n{LATER}"))
            for change in LINKED_BUGS["offset-first"].changes
        ),
        faults=("kill service", "kill leader"),  # records that are sent again would fill the gap
    ),
    "watermark-first": _linked("watermark-first", "kill broker", "cut broker", "repeat records"),
    "no-business-date": _linked("no-business-date", "kill service", "stop leader", "cut broker"),
    "close-without-waiting": _linked("close-without-waiting", "kill broker", "cut broker", "stop leader"),
}
