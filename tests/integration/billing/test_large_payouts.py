"""A payout fits into one record of Kafka, however many entries the day has; both versions of its event are read."""

from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from popug_cli.audit.rebuild import parked_positions
from popug_cli.billing.ledger import NewEntry, post
from popug_cli.bus.catch_up import catch_up
from popug_cli.bus.publisher import MAX_EVENT_BYTES
from popug_cli.kernel.errors import Conflict
from popug_cli.mail.consumers import CONSUMER as MAIL
from popug_cli.messages.billing import EntryKind, PayoutMade
from popug_cli.messages.old_versions import PayoutMadeV1
from popug_cli.messages.principal import OPERATOR
from tests.support.billing_company import BillingCompany, created

TODAY = "2026-03-02"
WIDE = "\U0001f99c" * 200  # 800 bytes; a title has at most 200 characters


@pytest.fixture
def house(tmp_path: Path) -> BillingCompany:
    company = BillingCompany(tmp_path / "home")
    company.register("kesha", "gosha")
    return company


def reward(house: BillingCompany, count: int, title: str = "Feed the cage", who: str = "kesha") -> None:
    """Post rewards of one cent for a task with that title."""
    house.publish_and_catch_up(msgspec.structs.replace(created("t", 7, who), title=title))
    with house.runtime.writing(OPERATOR) as context:
        entries = [
            NewEntry(f"e{number}", who, EntryKind.REWARD, 1, date.fromisoformat(TODAY), context.now, "t")
            for number in range(count)
        ]
        post(entries, context)


def payout_of(house: BillingCompany) -> tuple[dict[str, Any], int]:
    (row,) = house.rows(
        f"SELECT envelope, length(CAST(envelope AS BLOB)) AS size FROM bus_log WHERE type = '{PayoutMade.TYPE}'"
    )
    return msgspec.json.decode(row["envelope"])["data"], row["size"]


@pytest.mark.parametrize("title", ["Feed the cage", WIDE, '"' * 200], ids=["plain", "wide", "quotes"])
def test_day_of_100000_entries_is_paid_with_500_lines(house: BillingCompany, title: str) -> None:
    reward(house, 100_000, title)
    (day,) = house.close(TODAY)
    data, size = payout_of(house)
    assert (day.payouts_cents, data["amount_cents"], data["line_count"]) == (100_000, 100_000, 100_000)
    assert len(data["lines"]) == 500
    assert {line["task"]["title"] for line in data["lines"]} == {title}
    assert size < MAX_EVENT_BYTES


@pytest.mark.parametrize("count", [1, 499, 500, 501])
def test_lines_are_all_up_to_500(house: BillingCompany, count: int) -> None:
    reward(house, count)
    house.close(TODAY)
    data, _ = payout_of(house)
    assert (len(data["lines"]), data["line_count"]) == (min(count, 500), count)


@pytest.mark.parametrize(("characters", "shown"), [(3_000, 257), (799_000, 1), (850_000, 0)])
def test_title_of_another_program_does_not_stop_a_close(house: BillingCompany, characters: int, shown: int) -> None:
    """An event that another program appended may have a title of any length."""
    reward(house, 600, "x" * characters)
    house.close(TODAY)
    data, size = payout_of(house)
    assert (len(data["lines"]), data["line_count"]) == (shown, 600)
    assert size < MAX_EVENT_BYTES


def test_mail_queues_payouts_of_both_versions(house: BillingCompany) -> None:
    reward(house, 3)
    house.close(TODAY)
    data, _ = payout_of(house)
    fields = {name: data[name] for name in PayoutMadeV1.__struct_fields__}
    old = msgspec.convert(fields | {"user_id": "gosha", "lines": data["lines"] * 400}, PayoutMadeV1, strict=False)
    house.publish(old)
    assert catch_up(house.runtime, [MAIL]).failures == {}
    rows = house.rows("SELECT user_id, json_array_length(payload, '$.lines') AS n FROM mail_outbox ORDER BY user_id")
    assert rows == [{"user_id": "gosha", "n": 1_200}, {"user_id": "kesha", "n": 3}]
    with house.runtime.reading(OPERATOR) as context:
        assert parked_positions(context, MAIL) == set()


def test_version_1_is_refused_over_900000_bytes(house: BillingCompany) -> None:
    reward(house, 1)
    house.close(TODAY)
    data, _ = payout_of(house)
    fields = {name: data[name] for name in PayoutMadeV1.__struct_fields__}
    old = msgspec.convert(fields | {"lines": data["lines"] * 20_000}, PayoutMadeV1, strict=False)
    with pytest.raises(Conflict, match=r"payout_made\.v1 would have") as refused:
        house.publish(old)
    assert refused.value.code == "event_too_large"
