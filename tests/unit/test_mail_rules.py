"""The retries of a mail, the length of its lease, and its headers."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from popug_cli.mail.rules import (
    lease_duration,
    lease_margin,
    max_send_time,
    message_id_of,
    one_line,
    subject_of,
    summary_subject_of,
    wait_after,
)


def test_wait_doubles_from_a_minute_to_an_hour() -> None:
    waits = [wait_after(attempts, 0) for attempts in range(1, 9)]
    assert [wait.total_seconds() for wait in waits] == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert wait_after(10_000, 0) == timedelta(hours=1)


@given(st.integers(1, 20), st.floats(0, 1, exclude_max=True))
def test_jitter_cuts_the_wait_by_up_to_a_half(attempts: int, jitter: float) -> None:
    assert wait_after(attempts, 0) / 2 <= wait_after(attempts, jitter) <= wait_after(attempts, 0)
    assert wait_after(attempts + 1, jitter) >= wait_after(attempts, jitter)
    assert wait_after(1, 0.5) == timedelta(seconds=45)


def test_batch_is_claimed_for_longer_than_two_mails_can_take() -> None:
    assert max_send_time(10) == timedelta(seconds=60)
    assert lease_margin(10) == timedelta(seconds=120)
    assert lease_duration(10) == timedelta(seconds=130)


def test_message_id_is_of_the_mail_and_of_no_host() -> None:
    assert message_id_of("m1") == "<m1@popug.invalid>"


def test_error_is_one_line_of_bounded_length() -> None:
    assert one_line(" 550\r\n no  such user ") == "550 no such user"
    assert one_line(" \n") == "no reason given"
    assert one_line("x" * 501) == "x" * 500


def test_subject_has_the_amount_and_the_day() -> None:
    assert subject_of(123_456, date(2026, 3, 2)) == "You are paid $1,234.56 for 2026-03-02"
    assert summary_subject_of(-5, "2026-03-02") == "Closed 2026-03-02: income -$0.05"
