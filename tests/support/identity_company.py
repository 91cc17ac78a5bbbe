"""A company whose passwords are cheap to hash, and shortcuts for the tests of identity."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from popug_cli.app import LocalBackend
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.home import Home
from popug_cli.messages.identity import IssueToken, ListUsers, LogIn, Session, SetPassword, WhoAmI
from popug_cli.messages.principal import OPERATOR
from tests.support.company import PASSWORD, InProcess, SeededChance

WRONG_PASSWORD = "not the password"
CHEAP = {"POPUG_IDENTITY_ARGON2_MEMORY_KIB": "8192", "POPUG_IDENTITY_ARGON2_TIME_COST": "1"}


class People(InProcess):
    """Boss the admin, Mira the manager, Asya the accountant and Kesha the worker; Kesha has the same password."""

    def __post_init__(self) -> None:
        if self.root.exists():
            self.chance = SeededChance(self.chance.seed + 1)
            self.backend = LocalBackend(
                Home(self.root), warn=self.warnings.append, clock=self.clock, randomness=self.chance
            )
            for user in self.backend.perform_as(OPERATOR, ListUsers()).users:
                self._remember(user)
            return
        super().__post_init__()
        for name, role in (("mira", "manager"), ("asya", "accountant"), ("kesha", "worker")):
            self.hire(name, role)
        self.act("boss", SetPassword(username="kesha", password=PASSWORD))

    def log_in(self, name: str = "kesha", password: str = PASSWORD, device_token: str | None = None) -> Session:
        return self.backend.perform(LogIn(username=name, password=password, device_token=device_token))

    def guess(self, times: int, name: str = "kesha", device_token: str | None = None) -> list[str]:
        """Log in with that many wrong passwords. Return the codes."""
        codes = []
        for _ in range(times):
            with pytest.raises(PopugError) as error:
                self.log_in(name, WRONG_PASSWORD, device_token)
            codes.append(error.value.code)
        return codes

    def machine_token(self, name: str, ttl_seconds: int = 3600) -> str:
        return self.act("boss", IssueToken(username=name, ttl_seconds=ttl_seconds)).token

    def is_good(self, token: str) -> bool:
        try:
            return bool(self.backend.perform(WhoAmI(), token))
        except PopugError as error:
            if error.code != "token_revoked":
                raise
            return False

    def events(self, after: int = 0) -> list[str]:
        """Return ``name actor`` of each event of the module after a position."""
        return [
            f"{row['type'].split('.')[2]} {row['actor']}"
            for row in self.rows(
                "SELECT type, json_extract(envelope, '$.actor') AS actor FROM bus_log"
                f" WHERE sequence > {after} AND type LIKE 'popug.identity.%' ORDER BY sequence"
            )
        ]

    def published_events(self, after: int) -> list[tuple[str, dict[str, Any]]]:
        """Return name and data of each event of the module after a position."""
        rows = self.rows(f"SELECT type, envelope FROM bus_log WHERE sequence > {after} ORDER BY sequence")
        events = [(row["type"].split("."), msgspec.json.decode(row["envelope"])["data"]) for row in rows]
        return [(kind[2], data) for kind, data in events if kind[1] == "identity"]

    def head(self) -> int:
        return int(self.rows("SELECT coalesce(max(sequence), 0) AS head FROM bus_log")[0]["head"])


def settle(root: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    """Copy the template of a company into a home; a copy takes a tenth of the time of creating it."""
    for variable, value in CHEAP.items():
        monkeypatch.setenv(variable, value)
    if not template.exists():
        People(template).backend.runtime.database.close()
    shutil.copytree(template, root)
    return People(root)
