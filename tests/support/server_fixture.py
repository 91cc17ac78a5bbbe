"""A company held open as a server holds it, with users and their tokens."""

import shutil
from pathlib import Path
from typing import Any

import msgspec

from popug_cli.app import LocalBackend
from popug_cli.app.hosting.served_company import PerformResult, ServedCompany
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message
from popug_cli.messages.identity import AddUser, IssueToken, LogIn, RegisterFirstAdmin

TOKENS = "tokens.json"
PASSWORD = "correct horse battery"
STAFF = {"kesha": "worker", "asya": "accountant", "mango": "manager"}
CHEAP_HASHES = "[identity]\nargon2_time_cost = 1\nargon2_memory_kib = 8192\nargon2_parallelism = 1\n"


class ServerFixture:
    """A new home, or a copy of one, a token for each of its users, and the served company on demand."""

    def __init__(self, root: Path, template: Path | None = None) -> None:
        self.home = Home(root)
        self.local = LocalBackend(self.home)
        if template is None:
            (root / TOKENS).write_bytes(msgspec.json.encode(self._create_company()))
        else:
            shutil.copytree(template, root)
        self.tokens = msgspec.json.decode((root / TOKENS).read_bytes(), type=dict[str, str])
        self.open()

    def _create_company(self) -> dict[str, str]:
        self.local.create_company("Europe/Berlin")
        self.home.config.write_text(CHEAP_HASHES)
        self.local.close()
        self.local.perform(RegisterFirstAdmin(username="ada", email="ada@example.com", password=PASSWORD))
        tokens = {"ada": self.local.perform(LogIn(username="ada", password=PASSWORD)).token}
        for name, role in STAFF.items():
            self.local.perform(AddUser(username=name, email=f"{name}@example.com", role=role), tokens["ada"])
            issued = self.local.perform(IssueToken(username=name, ttl_seconds=86400), tokens["ada"])
            tokens[name] = issued.token
        self.local.close()
        return tokens

    def open(self) -> None:
        self.served_company = ServedCompany(self.home, threads=4)

    def close(self) -> None:
        self.served_company.close()
        self.local.close()

    def perform(self, name: str, message: Message[Any], *, key: str | None = None) -> PerformResult:
        return self.served_company.perform(message, self.tokens[name], key=key)

    def rows(self, statement: str) -> list[dict[str, Any]]:
        with self.local.runtime.database.connection(writes=False) as connection:
            return connection.records(statement)
