"""A company of payouts only."""

from collections.abc import Callable
from datetime import date
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.mail import sending
from popug_cli.mail.mime import RenderedMail
from popug_cli.mail.transport import ACCEPTED, DeliveryResult, Verdict
from popug_cli.messages.base import Event, Role
from popug_cli.messages.billing import EntryKind, PayoutMade, PayslipLine, TaskRef
from popug_cli.messages.identity import UserRegistered
from popug_cli.messages.mail import ListMails, MailLine, MailRunResult, SendMail
from popug_cli.messages.principal import OPERATOR
from tests.support.company import SeededChance, SetClock

DAY = date(2026, 3, 2)


class MailCompany:
    """The company; ``warnings`` are the warnings that came with the answers."""

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        self.clock = SetClock()
        self.warnings: list[str] = []
        self.home = Home(folder)
        self.backend = LocalBackend(self.home, warn=self.warnings.append, clock=self.clock, randomness=SeededChance())
        if create:
            self.backend.create_company("Europe/Berlin")

    def publish(self, *events: Event) -> None:
        with self.backend.runtime.writing(OPERATOR) as context:
            for event in events:
                context.events.publish(event)
        self.backend.catch_up()

    def hire(self, *names: str) -> None:
        self.publish(*(registered(name) for name in names))

    def pay(self, *names: str, day: date = DAY) -> None:
        self.publish(*(payout(name, day) for name in names))

    def send(self, *, release: bool = False) -> MailRunResult:
        return self.backend.perform_as(OPERATOR, SendMail(release=release))

    def mails(self) -> list[MailLine]:
        return self.backend.perform_as(OPERATOR, ListMails()).mails

    def statuses(self) -> dict[str, str]:
        return {mail.to.partition("@")[0]: str(mail.status) for mail in self.mails()}

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.backend.runtime.reading(OPERATOR) as context:
            return context.connection.records(statement)

    def execute(self, statement: str) -> None:
        with self.backend.runtime.writing(OPERATOR) as context:
            context.connection.execute(statement)

    def published(self, kind: str) -> int:
        return len(self.rows(f"SELECT 1 FROM bus_log WHERE type = 'popug.mail.{kind}.v1'"))

    def delivered(self) -> list[EmailMessage]:
        return [read(file) for file in sorted((self.home.maildir / "new").glob("*"))]


def registered(name: str) -> UserRegistered:
    return UserRegistered(user_id=f"id-{name}", username=name, email=f"{name}@example.com", role=Role.WORKER)


def payout(name: str, day: date = DAY, dollars: int = 14) -> PayoutMade:
    at = SetClock().now()
    task = TaskRef(17, "Feed the cage")
    return PayoutMade(
        user_id=f"id-{name}",
        business_date=day,
        amount_cents=dollars * 100,
        opening_balance_cents=0,
        lines=[
            PayslipLine(occurred_at=at, kind=EntryKind.FEE, signed_cents=-1400, task=task),
            PayslipLine(occurred_at=at, kind=EntryKind.REWARD, signed_cents=2800, task=task),
        ],
        line_count=2,
        log_head="ab" * 32,
    )


def read(file: Path) -> EmailMessage:
    message = BytesParser(policy=policy.default).parsebytes(file.read_bytes())
    assert isinstance(message, EmailMessage)
    return message


def receiver(mail: EmailMessage) -> str:
    (address,) = mail["To"].addresses
    return str(address.addr_spec)


DOWN = DeliveryResult(Verdict.UNAVAILABLE, "nobody is there")
BUSY = DeliveryResult(Verdict.DEFERRED, "451 later")
NEVER = DeliveryResult(Verdict.REJECTED, "550 unknown")
BROKEN = DeliveryResult(Verdict.DISCONNECTED, "the line is dead")


class ScriptedTransport:
    """A transport that returns the given results first, then accepts everything."""

    step_seconds = 1

    def __init__(self, *script: DeliveryResult | Callable[[], DeliveryResult], with_marking: bool = True) -> None:
        self.script = list(script)
        self.with_marking = with_marking
        self.handed_over: list[str] = []
        self.by_receiver: dict[str, DeliveryResult] = {}
        self.settled = ACCEPTED

    def __enter__(self) -> "ScriptedTransport":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def send(
        self,
        mail: RenderedMail,
        *,
        start_marking: Callable[[], None],
        finish_marking: Callable[[], None],
        prepare_next: Callable[[], None],
    ) -> DeliveryResult:
        if self.with_marking:
            start_marking()
            finish_marking()
        prepare_next()
        self.handed_over.append(mail.receiver.partition("@")[0])
        step = self.script.pop(0) if self.script else self.by_receiver.get(self.handed_over[-1], ACCEPTED)
        return step if isinstance(step, DeliveryResult) else step()

    def settle(self) -> DeliveryResult:
        return self.settled


Use = Callable[..., ScriptedTransport]


@pytest.fixture
def room(tmp_path: Path) -> MailCompany:
    return MailCompany(tmp_path / "home")


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Return a function that makes mail use a transport with the given results."""

    def use(*script: DeliveryResult | Callable[[], DeliveryResult], with_marking: bool = True) -> ScriptedTransport:
        transport = ScriptedTransport(*script, with_marking=with_marking)
        monkeypatch.setattr(sending, "open_transport", lambda settings, home: transport)
        return transport

    return use
