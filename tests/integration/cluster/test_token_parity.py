"""After random changes, a service that has received all events accepts exactly the tokens that identity accepts."""

from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from popug_cli.kernel.errors import PopugError
from popug_cli.messages.company import CheckHealth
from popug_cli.messages.identity import (
    ActivateUser,
    DeactivateUser,
    IssueToken,
    LogOut,
    RecoverAdmin,
    RevokeToken,
    RotateKey,
    SetPassword,
    SetRole,
    WhoAmI,
)
from popug_cli.messages.principal import OPERATOR
from tests.integration.cluster.token_services import TokenServices
from tests.support.company import PASSWORD

NAMES = ("kesha", "mira", "asya")
ROLES = ("worker", "manager", "accountant")
OPERATIONS = 50


class Life:
    """Random changes of tokens at identity. ``issued`` are the ids of machine tokens, ``tokens`` all tokens."""

    def __init__(self, services: TokenServices, seed: int) -> None:
        self.services, self.random = services, Random(seed)
        self.tokens: list[str] = []
        self.issued: list[str] = []
        for name in NAMES:
            services.people.act("boss", SetPassword(username=name, password=PASSWORD))

    def step(self) -> None:
        operations: list[Callable[[str], object]] = [
            self.log_in, self.log_in, self.issue, self.issue, self.log_out, self.revoke, self.change_password,
            self.change_role, self.deactivate, self.activate, self.rotate, self.recover, self.wait, self.crash,
        ]  # fmt: skip
        with suppress(PopugError):  # such as a login of a user who is not active
            self.random.choice(operations)(self.random.choice(NAMES))

    def log_in(self, name: str) -> None:
        self.tokens.append(self.services.people.log_in(name).token)

    def issue(self, name: str) -> None:
        ttl_seconds = self.random.choice([30, 3_600, 500_000])
        issued = self.services.people.act("boss", IssueToken(username=name, ttl_seconds=ttl_seconds))
        self.tokens.append(issued.token)
        self.issued.append(issued.token_id)

    def log_out(self, _name: str) -> None:
        if self.tokens:
            self.services.identity.backend.perform(LogOut(), self.random.choice(self.tokens))

    def revoke(self, _name: str) -> None:
        if self.issued:
            self.services.people.act("boss", RevokeToken(token_id=self.random.choice(self.issued)))

    def change_password(self, name: str) -> None:
        self.services.people.act("boss", SetPassword(username=name, password=PASSWORD))

    def change_role(self, name: str) -> None:
        self.services.people.act("boss", SetRole(username=name, role=self.random.choice(ROLES)))

    def deactivate(self, name: str) -> None:
        self.services.people.act("boss", DeactivateUser(username=name))

    def activate(self, name: str) -> None:
        self.services.people.act("boss", ActivateUser(username=name))

    def rotate(self, _name: str) -> None:
        self.services.people.act("boss", RotateKey())

    def recover(self, name: str) -> None:
        self.services.people.backend.perform(RecoverAdmin(username=name, password=PASSWORD), actor=OPERATOR)

    def wait(self, _name: str) -> None:
        self.services.advance(seconds=self.random.choice([1, 60, 4_000, 50_000]))

    def crash(self, _name: str) -> None:
        """Take events and die before they are consumed, or read the topic again."""
        self.services.send()
        self.services.take()
        if self.random.random() < 0.5:
            self.services.execute("UPDATE bus_streams SET next_offset = 0")


@pytest.mark.parametrize("seed", range(4))
def test_service_accepts_what_identity_accepts(services: TokenServices, seed: int) -> None:
    life = Life(services, seed)
    verdicts = set()
    for number in range(OPERATIONS):
        life.step()
        if number % 5 == 4:
            services.sync()
            for token in life.tokens:
                at_identity = services.refusal(token, WhoAmI(), services.identity.backend)
                assert services.refusal(token) == at_identity
                verdicts.add(at_identity)
    assert {"", "token_revoked"} <= verdicts
    checks = services.tasks.perform(CheckHealth(), actor=OPERATOR).checks
    assert [check for check in checks if check.name == "token_copies_match_events" and not check.ok] == []
