"""Values that SQLite accepts or that only a program sends: NUL in texts, pages of a statement, huge limits."""

import json
from pathlib import Path
from typing import Any

import pytest

from popug_cli.kernel.errors import InvalidInput, NotFound, PopugError
from popug_cli.mail.rules import one_line
from popug_cli.messages.base import Message
from popug_cli.messages.billing import GetStatement, ListInRed
from popug_cli.messages.bus import ListEvents, ShowEvent
from popug_cli.messages.identity import ShowUser
from popug_cli.messages.tasks import ListTasks
from tests.integration.postgres.test_several_servers import Node
from tests.support.installed_company import Company
from tests.support.postgres.server import PostgresServer

NUL = "a\0b"
WITH_NUL: list[Message[Any]] = [
    ShowUser(username=NUL),
    ShowEvent(event_id=NUL),
    ListEvents(type=NUL),
    ListTasks(assignee=NUL),
    ListTasks(search=NUL),
]


def node_of(company: Company) -> Node:
    """Return a server's company, open in this process."""
    return Node(company, "node")


def test_text_with_nul_refused_as_invalid_input(company: Company) -> None:
    node = node_of(company)
    token = node.log_in()
    for message in WITH_NUL:
        with pytest.raises(PopugError) as raised:
            node.perform(message, token)
        assert isinstance(raised.value, InvalidInput | NotFound), message
        assert NUL not in raised.value.message
    node.served.close()


@pytest.mark.parametrize(("username", "email"), [("n\0", "n@popug.example"), ("n", "n\0@popug.example")])
def test_imported_user_with_nul_refused(company: Company, tmp_path: Path, username: str, email: str) -> None:
    file = tmp_path / "users.jsonl"
    file.write_text(json.dumps({"username": username, "email": email, "role": "worker"}))
    company.run("user", "import", str(file), as_user="ada").refused_with_exit(2)
    assert company.run("doctor").ok()["ok"]


def test_statement_read_in_pages(company: Company) -> None:
    for number in range(5):
        company.add_task("ada", f"Chore {number}")
    node = node_of(company)
    token = node.log_in()
    whole = {name: node.perform(GetStatement(username=name), token).entries for name in ("kesha", "gosha")}
    assert sum(map(len, whole.values())) == 5
    for name, entries in whole.items():
        pages = [node.perform(GetStatement(username=name, offset=skipped, limit=2), token) for skipped in range(6)]
        assert [page.entries for page in pages] == [entries[skipped : skipped + 2] for skipped in range(6)]
    node.served.close()


def test_users_in_the_red_with_a_huge_limit(company: Company) -> None:
    company.add_task("ada", "Feed the cage")
    node = node_of(company)
    assert len(node.perform(ListInRed(limit=2**63), node.log_in()).people) == 1
    node.served.close()


def test_doctor_does_not_speak_of_a_sqlite_file(company: Company) -> None:
    details = {check["name"]: check["detail"] for check in company.run("doctor").ok()["checks"]}
    assert "SQLite" not in " ".join(details.values())
    assert details["database"] == "every row of the company's tables could be read"


def test_reply_of_a_mail_server_with_nul_can_be_stored(company: Company, postgres: PostgresServer) -> None:
    error = one_line("451 try\0 later")
    assert postgres.execute("SELECT %s::text", error, database=company.database) == [
        ("451 try\N{REPLACEMENT CHARACTER} later",)
    ]
