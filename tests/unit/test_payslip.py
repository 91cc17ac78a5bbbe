"""The payslip as a mail: its content, and that no user can inject text into it."""

from datetime import UTC, date, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.text import is_hidden
from popug_cli.mail.mime import RenderedMail
from popug_cli.mail.payslip import decode_payout, message_of, text_of
from popug_cli.mail.rules import message_id_of
from popug_cli.mail.setting_checks import check_sender
from popug_cli.messages.billing import EntryKind, PayoutMade, PayslipLine, TaskRef
from popug_cli.messages.old_versions import PayoutMadeV1
from popug_cli.messages.upcasters import upcast

BERLIN = Calendar("Europe/Berlin")
HEAD = "ab" * 32
QUEUED = datetime(2026, 3, 2, 23, 5, 0, tzinfo=UTC)


def line(kind: EntryKind, cents: int, task: TaskRef | None, at: datetime | None = None) -> PayslipLine:
    at = at or datetime(2026, 3, 2, 8, 12, tzinfo=UTC)
    return PayslipLine(occurred_at=at, kind=kind, signed_cents=cents, task=task)


def payout(title: str = "Feed the cage", opening_cents: int = 2400) -> PayoutMade:
    return PayoutMade(
        user_id="u1",
        business_date=date(2026, 3, 2),
        amount_cents=3800,
        opening_balance_cents=opening_cents,
        lines=[
            line(EntryKind.FEE, -1400, TaskRef(17, title)),
            line(EntryKind.REWARD, 2800, TaskRef(17, title)),
        ],
        line_count=2,
        log_head=HEAD,
    )


def message(
    paid: PayoutMade | None = None,
    username: str = "kesha",
    to: str = "kesha@example.com",
    sender: str = "popug@localhost",
) -> RenderedMail:
    return message_of(
        paid or payout(),
        username=username,
        to=to,
        sender=sender,
        message_id=message_id_of("0195-7"),
        queued_at=QUEUED,
        calendar=BERLIN,
    )


def parsed(mail: RenderedMail) -> EmailMessage:
    found = BytesParser(policy=policy.default).parsebytes(mail.content)
    assert isinstance(found, EmailMessage)
    return found


def parts(mail: EmailMessage) -> list[str]:
    bodies = (mail.get_body(("plain",)), mail.get_body(("html",)))
    return [str(body.get_content()) for body in bodies if body is not None]


def html_of(mail: EmailMessage) -> str:
    return parts(mail)[1].replace("\r\n", "\n")


def test_message_is_multipart() -> None:
    mail = parsed(message())
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert mail["Subject"] == "You are paid $38 for 2026-03-02"
    assert mail["Message-ID"] == "<0195-7@popug.invalid>"
    assert mail["From"].addresses[0].addr_spec == "popug@localhost"
    assert [address.addr_spec for address in mail["To"].addresses] == ["kesha@example.com"]
    assert mail["Date"].datetime == QUEUED
    assert mail.defects == []


def test_sum_comes_first_then_the_day_with_its_tasks() -> None:
    for text in parts(parsed(message())):
        body = text[text.find("<body") :] if "<body" in text else text
        places = [body.index(words) for words in ("$38", "$24", "-$14", "$28", HEAD)]
        assert places == sorted(places)
        assert text.count("#17 Feed the cage") == 2


def test_long_title_is_wrapped_in_text_only() -> None:
    title = "Clean the big cage by the window, then find the birds that used the chance, all of them, before noon"
    text = text_of(payout(title), "kesha", BERLIN)
    assert max(len(each) for each in text.splitlines()) <= 72
    assert " ".join(text.split()).count(f"#17 {title}") == 2
    assert html_of(parsed(message(payout(title)))).count(f"#17 {title}") == 2


def test_debt_brought_forward_is_negative() -> None:
    for text in parts(parsed(message(payout(opening_cents=-750)))):
        assert "-$7.50" in text


def test_times_are_in_the_company_zone() -> None:
    assert "09:12" in text_of(payout(), "kesha", BERLIN)


def test_line_of_another_date_shows_its_date() -> None:
    late = line(EntryKind.REWARD, 3800, TaskRef(1, "Late"), datetime(2026, 3, 1, 20, 0, tzinfo=UTC))
    paid = PayoutMade(
        user_id="u1",
        business_date=date(2026, 3, 2),
        amount_cents=3800,
        opening_balance_cents=0,
        lines=[late],
        line_count=1,
        log_head=HEAD,
    )
    assert "03-01 21:00" in text_of(paid, "kesha", BERLIN)


def test_line_without_a_task_is_shown() -> None:
    paid = payout()
    paid = PayoutMade(
        user_id="u1",
        business_date=paid.business_date,
        amount_cents=100,
        opening_balance_cents=0,
        lines=[line(EntryKind.FEE_REVERSAL, 100, None)],
        line_count=1,
        log_head=HEAD,
    )
    for text in parts(parsed(message(paid))):
        assert "fee taken back" in text


def test_long_day_shows_first_lines_and_sum_of_rest() -> None:
    shown = [line(EntryKind.REWARD, 100, TaskRef(number, "Feed the cage")) for number in range(500)]
    paid = replace(payout(opening_cents=-300), amount_cents=12_000_000, lines=shown, line_count=100_000)
    for text in parts(parsed(message(paid))):
        words = " ".join(text.split())
        assert "99,500 more" in words
        assert "$119,503" in words  # $120,000 paid, $3 brought forward, $500 in the lines
        assert "The day has 100,000 entries; this payslip shows 500 of them." in words
        assert "popug statement --from 2026-03-02 --to 2026-03-02" in text
        assert words.count("Feed the cage") == 500


def test_payslip_with_all_lines_says_nothing_of_others() -> None:
    for text in parts(parsed(message())):
        assert " more" not in text
        assert "popug statement" not in text


@pytest.mark.parametrize("count", [2, 501, 100_000])
def test_stored_payslip_of_version_1_has_all_its_lines(count: int) -> None:
    old = PayoutMadeV1(**{name: getattr(payout(), name) for name in PayoutMadeV1.__struct_fields__})
    old = replace(old, lines=[line(EntryKind.REWARD, 1, None)] * count)
    stored = decode_payout(msgspec.json.encode(old).decode())
    assert (len(stored.lines), stored.line_count) == (count, count)
    assert stored == upcast(old)
    assert decode_payout(msgspec.json.encode(stored).decode()) == stored


def test_titles_are_escaped_in_html() -> None:
    text, html = parts(parsed(message(payout("Wipe <b>the</b> glass & {day}"))))
    assert "Wipe <b>the</b> glass & {day}" in text
    assert "Wipe &lt;b&gt;the&lt;/b&gt; glass &amp; {day}" in html
    assert "<b>the</b>" not in html


def test_html_is_well_formed_with_right_aligned_sums() -> None:
    html = html_of(parsed(message()))
    table = ElementTree.fromstring(html[html.index("<table") : html.index("</table>") + len("</table>")])
    rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
    assert rows == [
        ["Time", "Entry", "Amount"],
        ["", "brought forward", "$24"],
        ["09:12", "assigned #17 Feed the cage", "-$14"],
        ["09:12", "completed #17 Feed the cage", "$28"],
        ["", "paid out", "$38"],
    ]
    assert {row[-1].get("align") for row in table.iter("tr")} == {"right"}


@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=20))
def test_hidden_text_and_headers_cannot_be_injected(title: str, username: str) -> None:
    paid = payout(title)
    mail = parsed(message(paid, username))
    for text in (text_of(paid, username, BERLIN), html_of(mail)):
        assert not any(is_hidden(character) for character in text if character != "\n")
    assert set(mail.keys()) == {
        "Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type",
    }  # fmt: skip
    assert [address.addr_spec for address in mail["To"].addresses] == ["kesha@example.com"]


@pytest.mark.parametrize("address", ["a@b.example\nBcc: all@b.example", "no address", "a@b, c@d", ""])
def test_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not a valid address"):
        message(to=address)


@pytest.mark.parametrize("sender", ["", "popug", "a@b.example, c@d.example", "a@b.example\nBcc: c@d.example", "<"])
def test_invalid_sender_is_refused(sender: str) -> None:
    with pytest.raises(InvalidInput):
        check_sender(sender)


@pytest.mark.parametrize("sender", ["popug@localhost", "Popug Payouts <popug@example.com>"])
def test_sender_is_one_address_with_or_without_a_name(sender: str) -> None:
    check_sender(sender)
    assert "@" in parsed(message(sender=sender))["From"].addresses[0].addr_spec


def test_every_attempt_composes_the_same_mail() -> None:
    assert message() == message()
