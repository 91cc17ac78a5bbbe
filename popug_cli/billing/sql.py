"""SQL expressions for the amount of an entry, built from the signs of ``EntryKind`` so that no statement repeats them.

Each expression is in cents and reads ``billing_entries`` under the alias ``entry``.
"""

from popug_cli.messages.billing import EntryKind


def signed(alias: str) -> str:
    """Return the expression for the change that an entry makes to the balance of its employee."""
    return _cents({kind: kind.balance_sign for kind in EntryKind}, alias)


def _cents(signs: dict[EntryKind, int], alias: str = "entry") -> str:
    cases = " ".join(
        f"WHEN '{kind}' THEN {'-' if sign < 0 else ''}{alias}.amount_cents" for kind, sign in signs.items() if sign
    )
    return f"CASE {alias}.kind {cases} ELSE 0 END"


SIGNED = signed("entry")
FEES = _cents({kind: kind.fee_sign for kind in EntryKind})
REWARDS = _cents({kind: kind.reward_sign for kind in EntryKind})
PAYOUTS = _cents({EntryKind.PAYOUT: 1})
