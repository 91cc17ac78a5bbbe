"""The result of a check, and the sentence that describes it."""

from popug_cli.messages.company import Check, Health

MAX_SHOWN_VIOLATIONS = 3


def health_of(checks: list[Check], head: str) -> Health:
    """Return the results of all checks together."""
    is_ok, needs_attention = all(check.ok for check in checks), any(check.attention for check in checks)
    return Health(ok=is_ok, checks=checks, head=head, attention=needs_attention)


def check_result(name: str, statement: str, violations: list[str]) -> Check:
    """Return the result of an invariant's check; it fails if there are violations and shows the first few of them."""
    if not violations:
        return Check(name, True, statement)
    more = " and more" if len(violations) > MAX_SHOWN_VIOLATIONS else ""
    return Check(name, False, f"Violated: {statement}. Examples: {', '.join(violations[:MAX_SHOWN_VIOLATIONS])}{more}")
