"""A service checks the sender of a part that another service asks for; mail is not sent while identity is silent."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from popug_cli.app.asked_by_services import perform_for_service
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.bus.service.restore import republish
from popug_cli.cluster.service_homes import make_service
from popug_cli.identity import policy
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.base import Message
from popug_cli.messages.billing import GetBalance
from popug_cli.messages.identity import ListUsers, LogOut, RotateKey, SetPassword, SetRole
from popug_cli.messages.internal.mail import SendDue
from popug_cli.messages.mail import SendMail
from popug_cli.messages.principal import OPERATOR, SCHEDULER, Principal
from popug_cli.messages.tasks import ListTasks
from tests.integration.cluster.token_services import ABOVE_WORKER, WORK, TokenServices
from tests.support.company import PASSWORD
from tests.support.identity_company import People
from tests.support.postgres.server import PostgresServer

LOG = "0198f3c2-0000-7000-8000-00000000000b"


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[TokenServices]:
    services = TokenServices(People(tmp_path / "home"), tmp_path / "services", "mail")
    services.sync()
    yield services
    services.close()


def owner_of(services: TokenServices, token: str) -> Principal:
    return policy.authenticate(token, services.tasks.runtime)


def asked(services: TokenServices, principal: Principal, message: Message[Any]) -> str:
    try:
        perform_for_service(services.tasks, principal, message)
    except PopugError as error:
        return error.code
    return ""


def test_silence_of_identity_stops_sending_mail(mail: TokenServices) -> None:
    token = mail.people.machine_token("asya", 86_400)
    senders = [owner_of(mail, token), OPERATOR, SCHEDULER]
    assert mail.refusal(token, SendMail()) == ""
    assert [asked(mail, sender, SendDue()) for sender in senders[:1]] == [""]
    mail.advance(seconds=61)
    assert mail.refusal(token, SendMail()) == "behind"
    for sender in senders:
        with pytest.raises(PopugError, match="cannot know which tokens are void") as refused:
            perform_for_service(mail.tasks, sender, SendDue())
        assert (refused.value.code, refused.value.exit_status) == ("behind", 8)


def test_part_is_refused_for_a_void_or_expired_token(services: TokenServices) -> None:
    sender = owner_of(services, services.people.machine_token("kesha", 60))
    assert asked(services, sender, ListTasks()) == ""
    services.people.act("boss", SetRole(username="kesha", role="manager"))
    services.sync()
    assert asked(services, sender, ListTasks()) == "token_revoked"
    manager = owner_of(services, services.people.machine_token("kesha", 60))
    assert asked(services, manager, ABOVE_WORKER) == ""
    services.advance(seconds=60)
    assert asked(services, manager, ListTasks()) == "token_expired"


def test_part_above_worker_is_refused_in_silence(services: TokenServices) -> None:
    manager = owner_of(services, services.people.machine_token("mira", 86_400))
    services.advance(minutes=2)
    assert [asked(services, manager, message) for message in (WORK, ABOVE_WORKER)] == ["", "behind"]


def test_figures_of_others_are_refused_in_silence(tmp_path: Path) -> None:
    """A worker may ask for its own balance; only a higher role may ask for that of another user."""
    billing = TokenServices(People(tmp_path / "home"), tmp_path / "services", "billing")
    billing.sync()
    accountant = billing.people.machine_token("asya", 86_400)
    messages = [GetBalance(), GetBalance(username="asya"), GetBalance(username="kesha")]
    assert [billing.refusal(accountant, message) for message in messages] == ["", "", ""]
    billing.advance(seconds=61)
    assert [billing.refusal(accountant, message) for message in messages] == ["", "", "behind"]
    billing.close()


def test_identity_checks_the_sender_of_a_part_too(services: TokenServices) -> None:
    identity = services.identity.backend
    sender = policy.authenticate(services.people.machine_token("boss", 86_400), identity.runtime)
    assert perform_for_service(identity, sender, ListUsers()).users
    services.people.act("boss", RotateKey())
    services.people.act("boss", SetRole(username="mira", role="admin"))
    identity.perform_as(OPERATOR, SetRole(username="boss", role="worker"))
    with pytest.raises(PopugError, match="revoked"):
        perform_for_service(identity, sender, ListUsers())


def test_server_of_a_service_verifies_with_the_copies(services: TokenServices) -> None:
    """It remembers verified tokens, and still looks at the deny list for each request."""
    served = ServedCompany(services.tasks.home, threads=2)
    served._runtime = replace(served._runtime, clock=services.tasks_clock)
    try:
        token = services.people.machine_token("kesha", 60)
        assert not served.has_verified(token)
        served.perform(WORK, token)
        assert served.has_verified(token)
        services.people.act("boss", SetRole(username="kesha", role="manager"))
        services.sync()
        with pytest.raises(PopugError, match="revoked"):
            served.perform(WORK, token)
        other = services.people.machine_token("kesha", 60)
        served.perform(WORK, other)
        services.advance(seconds=60)
        assert not served.has_verified(other)
        with pytest.raises(PopugError, match="expired"):
            served.perform(WORK, other)
    finally:
        served.close()


def test_copies_are_kept_on_postgresql(services: TokenServices, postgres: PostgresServer) -> None:
    """An empty database of the service receives all events of identity."""
    from popug_cli.storage.postgres import schema
    from popug_cli.storage.postgres.driver import PostgresDatabase

    name = postgres.create_database()
    schema.migrate(postgres.url(name))
    database = PostgresDatabase(postgres.url(name))
    ids = {row["origin"]: row["log_id"] for row in services.rows("SELECT origin, log_id FROM bus_streams")}
    services.tasks.runtime = replace(services.tasks.runtime, database=database)
    with services.tasks.runtime.writing(OPERATOR) as context:
        make_service(context, "tasks", {"tasks": LOG, **ids})
    with services.identity.backend.runtime.writing(OPERATOR) as context:
        republish(context, 1)
    session, machine = services.people.log_in().token, services.people.machine_token("mira", 3600)
    services.people.backend.perform(LogOut(), session)
    later = services.people.log_in().token
    services.sync()
    assert [services.refusal(token) for token in (session, later, machine)] == ["token_revoked", "", ""]
    assert services.refusal(machine, ABOVE_WORKER) == ""
    services.people.act("boss", SetPassword(username="kesha", password=PASSWORD))
    services.people.act("boss", SetRole(username="mira", role="worker"))
    services.sync()
    assert [services.refusal(token) for token in (later, machine)] == ["token_revoked", "token_revoked"]
    services.advance(hours=13)
    assert services.refusal(services.people.machine_token("boss", 60), ABOVE_WORKER) == "behind"
    services.sync()
    for table in ("identity_revoked_tokens", "identity_token_owners WHERE void_below > 0"):
        assert services.rows(f"SELECT 1 FROM {table}") == []
    assert services.refusal(services.people.machine_token("boss", 60), ABOVE_WORKER) == ""
    database.close()
    postgres.drop_database(name)
