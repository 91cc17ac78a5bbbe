"""The metrics of a company on PostgreSQL."""

from contextlib import closing

import pytest

from popug_cli.app.hosting.measurements import Measurements, measure
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.kernel.home import Home
from popug_cli.server.metrics import Metrics
from tests.support.installed_company import Company

INSERT_MAIL = (
    "INSERT INTO mail_outbox (mail_id, message_id, user_id, business_date, kind, amount_cents, payload, cause_id,"
    " status, held, attempts, due_at, queued_at) VALUES ('m', 'm', 'u', '2026-03-02', 'payslip', 100, '{}', 'c',"
    " 'queued', 1, 0, '', '')"
)
INSERT_SET_ASIDE = (
    "INSERT INTO bus_set_aside (consumer, sequence, subject, state, attempts, error, since)"
    " VALUES ('mail', 1, 'a', 'dead', 5, 'x', ''), ('mail', 2, 'a', 'waiting', 0, '', '')"
)


def served(company: Company, monkeypatch: pytest.MonkeyPatch) -> ServedCompany:
    monkeypatch.setenv("POPUG_DATABASE", company.store.url())
    return ServedCompany(Home(company.home), threads=1)


def measured(company: Company, monkeypatch: pytest.MonkeyPatch) -> Measurements:
    with closing(served(company, monkeypatch)) as found:
        return measure(found)


def test_measurements_are_those_of_the_database(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    before = measured(company, monkeypatch)
    company.add_task("ada", "Feed the cage")
    company.store.edit(INSERT_MAIL, INSERT_SET_ASIDE)
    after = measured(company, monkeypatch)
    assert after.log_head == before.log_head + 4
    assert after.days_open == 1
    assert (after.relay_position, after.streams) == (None, [])
    assert after.mails is not None
    assert (after.mails.unsent, after.mails.held, after.mails.failed) == (1, 1, 0)
    counts = {each.consumer: (each.lag, each.waiting, each.dead) for each in after.consumers}
    assert counts == {"analytics": (0, 0, 0), "billing": (0, 0, 0), "mail": (0, 1, 1), "tasks": (0, 0, 0)}


def test_database_that_is_gone_is_not_up(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(served(company, monkeypatch)) as found:
        metrics = Metrics(found, "0.1.0")
        assert b"\npopug_database_up 1.0\n" in metrics.render("")[0]
        company.store.edit("ALTER TABLE bus_cursors RENAME TO bus_cursors_gone")
        text = metrics.render("")[0]
    assert b"\npopug_database_up 0.0\n" in text
    assert b"process_open_fds" in text
