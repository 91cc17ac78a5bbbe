"""The rules for a home after an interrupted command: nothing lost, nothing done twice, nothing half done."""

from tests.simulation.disk.command_runner import Aftermath, Examined
from tests.simulation.disk.scenario import Rehearsal
from tests.simulation.disk.snapshot import difference


def judge(rehearsal: Rehearsal, after: Aftermath, *, acknowledged: bool, untouched: bool = False) -> str:
    """Return the broken rule as a sentence, or an empty text.

    ``acknowledged``: the command said that it was done. ``untouched``: it said that nothing was changed.
    """
    wrong = judge_found(rehearsal, after.found, acknowledged=acknowledged, untouched=untouched)
    if wrong or after.ended.wrong:
        return wrong or f"after it was given again: {after.ended.wrong}"
    return _as_undisturbed(rehearsal, after)


def judge_found(rehearsal: Rehearsal, found: Examined, *, acknowledged: bool, untouched: bool = False) -> str:
    """Return the rule broken by the state before the command is repeated."""
    state = found.state
    if found.wrong:
        return f"after the cut: {found.wrong}"
    if acknowledged and state != rehearsal.once:
        return f"it was acknowledged and is not there: {difference(state, rehearsal.once)}"
    if untouched and state != rehearsal.at_first:
        return f"it was refused and is there: {difference(state, rehearsal.at_first)}"
    if state not in (rehearsal.at_first, rehearsal.once) and not _may_be_half_done(rehearsal):
        return f"it is half done: {difference(state, rehearsal.at_first)}"
    return ""


def _as_undisturbed(rehearsal: Rehearsal, after: Aftermath) -> str:
    """Check that the repeat ends like the undisturbed command, or like doing it twice if it was already done."""
    done = after.found.state == rehearsal.once
    expected = rehearsal.twice if done else rehearsal.once
    if after.ended.state != expected:
        output = after.again.stderr.strip()[-200:]
        return f"given again it ends otherwise: {difference(after.ended.state, expected)} ({output})"
    codes = {rehearsal.again.code} if done else {rehearsal.done.code}
    if _may_be_half_done(rehearsal):
        codes = {rehearsal.again.code, rehearsal.done.code}
    if after.again.code not in codes:
        return f"given again it answers {after.again.code}: {after.again.stderr.strip()}"
    return ""


def _may_be_half_done(rehearsal: Rehearsal) -> bool:
    return rehearsal.step.command.staged or rehearsal.step.command.writes_file
