"""How a check is worded."""

from popug_cli.messages.company import Check

MAX_SHOWN = 3


def check_result(name: str, statement: str, violations: list[str]) -> Check:
    """The check of an invariant from what contradicts it, the first few of it in words."""
    if not violations:
        return Check(name, True, statement)
    more = " and more" if len(violations) > MAX_SHOWN else ""
    return Check(name, False, f"it does not hold that {statement}: {', '.join(violations[:MAX_SHOWN])}{more}")
