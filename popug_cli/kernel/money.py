"""Money: whole cents, never a float."""

CENTS_PER_DOLLAR = 100


def format_cents(amount_cents: int) -> str:
    """Return an amount in cents as text: ``$14``, ``-$3.50``, ``$1,200``."""
    sign = "-" if amount_cents < 0 else ""
    dollars, cents = divmod(abs(amount_cents), CENTS_PER_DOLLAR)
    return f"{sign}${dollars:,}" + (f".{cents:02}" if cents else "")
