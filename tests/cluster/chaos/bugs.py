"""Bugs planted for chaos runs, which must find each of them."""

from typing import NamedTuple

from tests.simulation.bugs import Change


class ChaosBug(NamedTuple):
    """A bug: its description, and what plants it: changes of a copy of the program, or a setting of the databases.

    ``faults`` are the kinds of faults that a run to find it consists of; all kinds if it is empty.
    """

    what: str
    changes: tuple[Change, ...] = ()
    is_asynchronous: bool = False
    faults: tuple[str, ...] = ()


BUGS: dict[str, ChaosBug] = {
    "asynchronous": ChaosBug(
        "commits wait for no standby, and the primary fails over", is_asynchronous=True, faults=("failover",)
    ),
}
