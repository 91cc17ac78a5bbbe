"""The output of mail and analytics at a terminal."""

import json
from pathlib import Path

import pytest

from tests.support.mail_company import MailCompany
from tests.support.mail_program import Popug, found_company

Shown = tuple[int, str, str]


@pytest.fixture
def popug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Popug:
    """The program, run by the admin of a new company."""
    return found_company(tmp_path, {}, 140, monkeypatch, capsys)


@pytest.fixture
def room(popug: Popug, tmp_path: Path) -> MailCompany:
    room = MailCompany(tmp_path / "home")
    room.hire("kesha")
    room.pay("kesha")
    return room


def test_mail_is_listed_shown_and_sent(popug: Popug, room: MailCompany) -> None:
    (mail,) = room.mails()
    code, out, _ = popug("mail", "list")
    assert code == 0
    for words in (mail.mail_id, "2026-03-02", "kesha@example.com", "$14", "queued"):
        assert words in out
    assert popug("mail", "send") == (0, "1 mail was sent, 0 still to be sent.\nNext: popug mail list\n", "")
    code, out, _ = popug("mail", "show", mail.mail_id)
    assert code == 0
    assert "sent, tried 1 time\n" in out
    assert "#17 Feed the cage" in out
    assert popug("mail", "list", "--status", "queued")[1].strip() == "There are no such mails."


def test_mail_in_json_is_as_the_contract_names_it(popug: Popug, room: MailCompany) -> None:
    (mail,) = json.loads(popug("mail", "list", "--json")[1])["mails"]
    assert mail == {
        "mail_id": mail["mail_id"],
        "to": "kesha@example.com",
        "subject": "You are paid $14 for 2026-03-02",
        "status": "queued",
        "attempts": 0,
        "last_error": None,
        "business_date": "2026-03-02",
        "amount_cents": 1400,
        "held": False,
        "kind": "payslip",
    }
    sent = json.loads(popug("mail", "send", "--yes", "--json")[1])
    assert sent == {"sent": 1, "queued": 0, "failed": 0, "held": 0}


def test_held_mail_needs_yes(popug: Popug, room: MailCompany) -> None:
    room.execute("UPDATE mail_outbox SET held = 1")
    assert "queued (held)" in popug("mail", "list")[1]
    code, out, err = popug("mail", "send", "--json")
    assert (code, out, json.loads(err)["error"]["code"]) == (2, "", "needs_yes")
    assert popug("mail", "send", "--yes")[1].startswith("1 mail was sent, 0 still to be sent.\n")


def test_refused_mail_gives_a_hint(popug: Popug, room: MailCompany) -> None:
    room.execute("UPDATE mail_receivers SET email = 'no address' WHERE username = 'kesha'")
    code, out, err = popug("mail", "send")
    assert "popug mail retry --all" in err
    assert code == 0
    assert "1 mail was rejected permanently." in out
    (mail,) = room.mails()
    assert "Last error" in popug("mail", "show", mail.mail_id)[1]
    assert "is queued" in popug("mail", "retry", mail.mail_id)[1]


def test_unknown_mail_exits_with_3_and_unknown_status_with_2(popug: Popug) -> None:
    assert popug("mail", "show", "no-such")[0] == 3
    assert popug("mail", "retry", "no-such")[0] == 3
    assert popug("mail", "list", "--status", "lost")[0] == 2


def test_analytics_shows_the_list_by_day(popug: Popug, tmp_path: Path) -> None:
    for day, reward, number, title in ((1, 20, 3, "Sweep"), (2, 38, 9, "Polish the perch"), (3, 28, 17, "Feed")):
        MailCompany(tmp_path / "home").execute(
            "INSERT INTO analytics_tasks (task_id, number, title, reward_cents, completed_at, business_date)"
            f" VALUES ('{day}', {number}, '{title}', {reward}00, '2026-03-0{day}T12:00:00.000000Z', '2026-03-0{day}')"
        )
        MailCompany(tmp_path / "home").execute(
            "INSERT INTO analytics_days (business_date, fees_cents, rewards_cents, closed)"
            f" VALUES ('2026-03-0{day}', 1400, {reward}00, 0)"
        )
    code, out, _ = popug("analytics", "--date", "2026-03-03")
    assert code == 0
    assert "Management income  -$14\n" in out
    assert out.endswith(
        "03-03          most expensive task  $28  #17 Feed\n"
        "03-02          most expensive task  $38  #9  Polish the perch\n"
        "03-01          most expensive task  $20  #3  Sweep\n"
        "03-01 … 03-03  most expensive task  $38  #9  Polish the perch\n"
    )
    by_day = json.loads(popug("analytics", "--date", "2026-03-03", "--json")[1])["most_expensive"]["by_day"]
    task = {"number": 17, "title": "Feed"}
    assert by_day[0] == {"from": "2026-03-03", "to": "2026-03-03", "task": task, "reward_cents": 2800}


def test_analytics_of_a_day_without_tasks_has_a_sentence(popug: Popug) -> None:
    out = popug("analytics", "--date", "2026-03-03")[1]
    assert "No task was completed in 2026-03 up to 2026-03-03." in out
    assert popug("analytics", "--date", "soon")[0] == 2
    assert popug("analytics", "--date", "yesterday")[0] == 0
