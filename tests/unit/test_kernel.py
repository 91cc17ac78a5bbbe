"""Money, time, randomness, text and settings, without a database."""

import json
import unicodedata
from base64 import urlsafe_b64encode
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.kernel.calendar import Calendar
from popug_cli.kernel.clock import from_rfc3339, to_rfc3339
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.jwt_payload import read_unverified_claim
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.randomness import SystemRandomSource, uuid7
from popug_cli.kernel.text import counted, escape_hidden, escape_hidden_json, is_hidden, validate_reason
from popug_cli.kernel.version import series_of
from popug_cli.platform.files import replace_file


@pytest.mark.parametrize(
    ("cents", "words"),
    [(1400, "$14"), (-350, "-$3.50"), (0, "$0"), (5, "$0.05"), (123_456_700, "$1,234,567"), (-100, "-$1")],
)
def test_money_is_formatted_in_dollars(cents: int, words: str) -> None:
    assert format_cents(cents) == words


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_time_stamp_keeps_the_instant(instant: datetime) -> None:
    assert from_rfc3339(to_rfc3339(instant)) == instant
    assert len(to_rfc3339(instant)) == len("2026-03-02T09:00:00.000000Z")


@given(st.lists(st.datetimes(timezones=st.just(UTC), min_value=datetime(1, 1, 2)), min_size=2))
def test_stamps_sort_as_instants_do(instants: list[datetime]) -> None:
    assert sorted(to_rfc3339(i) for i in instants) == [to_rfc3339(i) for i in sorted(instants)]


def test_ids_are_uuids_of_version_7_that_sort_by_time() -> None:
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    ids = [uuid7(early, SystemRandomSource()) for _ in range(100)]
    assert {each[14] for each in ids} == {"7"}
    assert {each[19] for each in ids} <= set("89ab")
    assert max(ids) < uuid7(late, SystemRandomSource())
    assert len(set(ids)) == 100


def test_date_missing_in_the_zone_does_not_exist() -> None:
    apia = Calendar("Pacific/Apia")
    assert not apia.exists(date(2011, 12, 30))
    assert apia.next_day(date(2011, 12, 29)) == date(2011, 12, 31)
    assert apia.previous_day(date(2011, 12, 31)) == date(2011, 12, 29)
    assert list(apia.days(date(2011, 12, 29), date(2011, 12, 31))) == [date(2011, 12, 29), date(2011, 12, 31)]


@pytest.mark.parametrize("name", ["Africa/Cairo", "America/Havana", "Europe/Berlin", "Asia/Kathmandu"])
def test_days_with_a_missing_midnight_or_hour_exist(name: str) -> None:
    calendar = Calendar(name)
    first = date(2024, 1, 1)
    assert len(list(calendar.days(first, date(2024, 12, 31)))) == 366


def test_instant_falls_on_the_date_of_the_companys_zone() -> None:
    instant = datetime(2026, 3, 2, 23, 30, tzinfo=UTC)
    assert Calendar("Europe/Berlin").date_of(instant) == date(2026, 3, 3)
    assert Calendar("America/New_York").date_of(instant) == date(2026, 3, 2)


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../etc/passwd", "Europe/Berlin\0", "localtime", "a" * 300])
def test_invalid_zone_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Calendar(name)
    assert refusal.value.code == "invalid_time_zone"


@given(st.text())
def test_visible_text_holds_nothing_a_terminal_acts_on(text: str) -> None:
    assert not any(is_hidden(character) for character in escape_hidden(text))


@given(st.text(st.characters(codec="utf-8")))
def test_escaped_json_decodes_to_the_stored_text(text: str) -> None:
    document = escape_hidden_json(json.dumps({"title": text}, ensure_ascii=False))
    assert json.loads(document) == {"title": text}
    assert not any(unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs"} for character in document)


def test_file_is_replaced_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "session.json"
    file.write_text("old")
    replace_file(file, b"new")
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_zones_an_hour_apart_agree_on_the_instant() -> None:
    instant = datetime(2026, 3, 29, 0, 59, tzinfo=UTC)
    berlin = Calendar("Europe/Berlin")
    assert berlin.local(instant) + timedelta(minutes=2) > berlin.local(instant)
    assert berlin.local(instant).utcoffset() != berlin.local(instant + timedelta(minutes=2)).utcoffset()


def test_reason_is_one_line_of_visible_text() -> None:
    assert validate_reason(" it  never\tfitted ", hint="", allow_hidden=True) == "it never fitted"
    assert validate_reason("quotes \x1b[1m\nand more", hint="", allow_hidden=True) == "quotes \x1b[1m and more"
    assert validate_reason(" it  never fitted ", hint="") == "it never fitted"


@pytest.mark.parametrize("reason", ["two\nlines", "a\tb", "a\u202eb", "a\x1b"])
def test_reason_with_hidden_text_refused(reason: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        validate_reason(reason, hint="Why?")
    assert refused.value.code == "invalid_reason"
    assert refused.value.message == "A reason is one line of visible characters."
    assert refused.value.hint == "Why?"


@pytest.mark.parametrize("reason", ["", " \n\t", "\u200b\u00ad", "x" * 501])
@pytest.mark.parametrize("allow_hidden", [False, True])
def test_blank_or_long_reason_refused(reason: str, allow_hidden: bool) -> None:
    with pytest.raises(InvalidInput) as refused:
        validate_reason(reason, hint="", allow_hidden=allow_hidden)
    assert refused.value.message == "A reason has 1 to 500 characters."


def test_unverified_claim_is_read() -> None:
    payload = urlsafe_b64encode(b'{"sub": "kim", "exp": 7}').decode().rstrip("=")
    assert read_unverified_claim(f"head.{payload}.signature", "sub") == "kim"
    assert read_unverified_claim(f"head.{payload}.signature", "exp") == "7"


@pytest.mark.parametrize(
    "payload", [b"{}", b"[]", b"7", b"no json", b"\xff", b"[" * 100_000], ids=lambda payload: repr(payload[:9])
)
def test_unreadable_claim_refused(payload: bytes) -> None:
    for token in (f"head.{urlsafe_b64encode(payload).decode()}.signature", "no token", "head.a.signature", ""):
        with pytest.raises(ValueError, match=r"."):
            read_unverified_claim(token, "sub")


def test_series_is_two_numbers() -> None:
    assert series_of("1.4.2") == series_of("1.4.0.dev1") != series_of("1.5.2")
    assert series_of("") != series_of("1.4")


@pytest.mark.parametrize(
    ("name", "is_suggested"), [("berlin", True), ("localtime", False), ("factory", False), ("Factory", False)]
)
def test_only_usable_zones_are_suggested(name: str, is_suggested: bool) -> None:
    with pytest.raises(InvalidInput) as refusal:
        Calendar(name)
    assert ("Did you mean" in refusal.value.hint) is is_suggested


@pytest.mark.parametrize(
    ("count", "words", "text"),
    [
        (0, ("task",), "0 tasks"),
        (1, ("task",), "1 task"),
        (2, ("task",), "2 tasks"),
        (1_000, ("person", "people"), "1,000 people"),
        (1, ("mail was", "mails were"), "1 mail was"),
        (21, ("mail was", "mails were"), "21 mails were"),
    ],
)
def test_count_agrees_with_its_noun(count: int, words: tuple[str, ...], text: str) -> None:
    assert counted(count, *words) == text
