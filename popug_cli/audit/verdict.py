"""How a check is worded."""

from popug_cli.messages.company import Check

SHOWN = 3


def verdict(name: str, holds: str, contradictions: list[str]) -> Check:
    """The check of an invariant from what contradicts it, the first few of it in words."""
    if not contradictions:
        return Check(name, True, holds)
    more = " and more" if len(contradictions) > SHOWN else ""
    return Check(name, False, f"it does not hold that {holds}: {', '.join(contradictions[:SHOWN])}{more}")
