"""Read the answers and the mails of a company: the parts that several acceptance tests compare."""

import re
from datetime import date, timedelta
from email.message import EmailMessage

from tests.support.installed_company import Json


def pick(answer: Json, *keys: str) -> Json:
    """Return the fields of an answer that the contract names; it may have more."""
    return {key: answer[key] for key in keys}


def day_figures(day: Json) -> Json:
    """Return the contract's `day` of an answer about a day."""
    return pick(
        day, "business_date", "closed", "fees_cents", "rewards_cents", "income_cents", "payouts_cents",
        "paid_count", "in_red_count",
    )  # fmt: skip


def payouts_of(day: Json) -> list[tuple[str, int]]:
    """Return the name and amount of each payout at the close of a day."""
    return sorted((payout["username"], payout["amount_cents"]) for payout in day["payouts"])


def day_of(income: Json, date: str) -> Json:
    """Return the figures of one day from the answer of `income`."""
    days = [day for day in income["days"] if day["business_date"] == date]
    assert len(days) == 1, income
    return day_figures(days[0])


def receiver_of(mail: EmailMessage) -> str:
    """Return the bare address of a mail's receiver."""
    (address,) = mail["To"].addresses
    return str(address.addr_spec)


def parts_of(mail: EmailMessage) -> tuple[str, str]:
    """Return the text and the HTML of a multipart message."""
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert mail.is_multipart()
    assert text is not None
    assert html is not None
    return str(text.get_content()), str(html.get_content())


def shows_dollars(text: str, cents: int) -> bool:
    """Return whether a text contains this sum of whole dollars: `$14`, `-$7`."""
    assert cents % 100 == 0
    sign = "-" if cents < 0 else "(?<!-)"
    return re.search(rf"{sign}\${abs(cents) // 100}(?:\.00)?(?![\d.]*\d)", text) is not None


def days_between(first: str, last: str) -> list[str]:
    """Return the ISO dates from the first to the last, both included."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]
