"""The results of the mutants, by package, and how they compare with the goals."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tests.mutation.equivalent import Equivalent, is_letter_case_of_sql
from tests.mutation.results import ALIVE, UNDECIDED, Mutant

GOALS = {"identity": 85}
GOAL = 90
COLUMNS = ("mutants", "killed", "survived", "no tests", "timeout", "equivalent", "score", "goal")


class Row(NamedTuple):
    """The figures of a package: a mutant that never ends counts as killed."""

    package: str
    mutants: int
    killed: int
    survived: int
    no_tests: int
    timeout: int
    equivalent: int

    @property
    def score(self) -> float:
        """Return the percentage of killed mutants, without the equivalent ones."""
        return 100 * (self.killed + self.timeout) / max(1, self.mutants - self.equivalent)

    @property
    def goal(self) -> int:
        return GOALS.get(self.package, GOAL)

    @property
    def reached(self) -> bool:
        return self.score >= self.goal

    def __str__(self) -> str:
        numbers = "".join(f"{number:>11,}" for number in self[1:])
        return f"{self.package:<10}{numbers}{self.score:>9.1f} %{self.goal:>9} %  {'ok' if self.reached else 'MISSED'}"


class Findings(NamedTuple):
    """Mutants sorted by their status."""

    rows: list[Row]
    survivors: list[Mutant]
    undecided: int
    stale: list[Equivalent]


def sort_out(mutants: Sequence[Mutant], named: Sequence[Equivalent]) -> Findings:
    """Count the mutants by package, remove the equivalent ones, and find entries that match none."""
    decided = [mutant for mutant in mutants if mutant.verdict not in UNDECIDED]
    met: set[Equivalent] = set()
    survivors, verdicts = [], Counter[tuple[str, str]]()
    for mutant in decided:
        is_alive = mutant.verdict in ALIVE
        names = [each for each in named if is_alive and each.covers(mutant.function, mutant.difference)]
        met.update(names)
        is_equivalent = bool(names) or (mutant.verdict == "survived" and is_letter_case_of_sql(mutant.difference))
        verdicts[mutant.package, "equivalent" if is_equivalent else mutant.verdict] += 1
        if is_alive and not is_equivalent:
            survivors.append(mutant)
    rows = [_row(package, verdicts) for package in sorted({mutant.package for mutant in decided})]
    functions = {mutant.function for mutant in decided}
    stale = [e for e in named if e.function in functions and e not in met]
    return Findings(rows, survivors, len(mutants) - len(decided), stale)


def _row(package: str, verdicts: Counter[tuple[str, str]]) -> Row:
    found = {verdict: count for (of, verdict), count in verdicts.items() if of == package}
    total = sum(found.values())
    survived, no_tests, timeout, equivalent = (
        found.get(verdict, 0) for verdict in ("survived", "no tests", "timeout", "equivalent")
    )
    killed = total - survived - no_tests - timeout - equivalent
    return Row(package, total, killed, survived, no_tests, timeout, equivalent)


def header() -> str:
    """Return the names of the columns."""
    return f"{'package':<10}" + "".join(f"{column:>11}" for column in COLUMNS)
