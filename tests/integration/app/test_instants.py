"""Instants in messages have a time zone, zones may be unknown to a machine, and only the database reports damage."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from popug_cli.messages.base import DECLARATIONS, Access, Message
from popug_cli.messages.tasks import ListTasks
from popug_cli.tasks import queries
from tests.support.company import InProcess
from tests.support.running_server import RunningServer, create_home

INSTANTS = [
    (message, field.encode_name)
    for message, declaration in sorted(DECLARATIONS.items(), key=lambda pair: pair[0].__name__)
    for field in msgspec.structs.fields(message)
    if declaration.access is not Access.OPERATOR
    and not declaration.is_internal
    and "datetime.datetime" in str(field.type)
]
NO_ZONE = ("2026-11-30T00:00:00", "2026-11-30T00:00:00.5", "2026-11-30 00:00:00")
BEYOND_THE_CALENDAR = ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "9999-12-31T23:59:59.999999Z")


@pytest.mark.parametrize(("message", "field"), INSTANTS, ids=str)
@pytest.mark.parametrize("text", [*NO_ZONE, *BEYOND_THE_CALENDAR])
def test_instant_without_zone_or_date_is_invalid(message: type[Message[Any]], field: str, text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"zone|calendar"):
        msgspec.json.decode(json.dumps({field: text}), type=message)


def test_instants_exist_and_accept_an_offset() -> None:
    assert len(INSTANTS) >= 7
    message = msgspec.json.decode('{"since": "2026-11-30T01:00:00+01:00"}', type=ListTasks)
    assert message.since == datetime(2026, 11, 30, tzinfo=UTC)
    with pytest.raises(ValueError, match="needs a time zone"):
        ListTasks(since=datetime(2026, 11, 30))


def test_server_refuses_each_instant_without_a_zone(tmp_path: Path) -> None:
    company = create_home(tmp_path / "home")
    with RunningServer(company.home.root, "--listen", "127.0.0.1:0") as served:
        for message, field in INSTANTS:
            route = f"{DECLARATIONS[message].module}/{DECLARATIONS[message].name}"
            for text in (*NO_ZONE, *BEYOND_THE_CALENDAR):
                answer = served.post(route, {field: text}, company.tokens["ada"])
                assert (answer.status, answer.document["code"]) == (422, "usage"), (route, answer)
        shown = served.post("today/show_today", {"since": "2026-11-30T00:00:00Z"}, company.tokens["kesha"])
        assert shown.status == 200


@pytest.mark.parametrize("error", [ValueError("a bug"), TypeError("a bug"), KeyError("a bug"), AttributeError("a bug")])
def test_error_of_a_query_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    company = InProcess(tmp_path / "home")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(queries, "list_tasks", fail)
    with pytest.raises(type(error), match="a bug"):
        company.act("boss", ListTasks())


def test_zone_unknown_to_the_machine_asks_for_newer_data(tmp_path: Path) -> None:
    zone = tmp_path / "newer-data" / "Europe" / "Birdland"
    zone.parent.mkdir(parents=True)
    shutil.copyfile("/usr/share/zoneinfo/Europe/Berlin", zone)
    home = {"POPUG_HOME": str(tmp_path / "home"), "POPUG_SESSION": str(tmp_path / "session.json")}

    def popug(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "popug_cli", *words, "--json"], env={**os.environ, **home, **environment},
            input="seven-cages-under-9-moons\n", capture_output=True, text=True, check=False,
        )  # fmt: skip

    init = ("init", "--admin", "ada", "--email", "ada@example.com", "--time-zone", "Europe/Birdland")
    assert popug(*init, "--password-stdin").returncode == 2
    newer_data = f"{tmp_path / 'newer-data'}:/usr/share/zoneinfo"
    assert popug(*init, "--password-stdin", PYTHONTZPATH=newer_data).returncode == 0
    for words in (["task", "add", "Feed the cage"], ["balance"], ["doctor"], ["backup"], ["scheduler", "--once"]):
        refused = popug(*words)
        error = json.loads(refused.stderr)["error"]
        assert (refused.returncode, error["code"]) == (8, "unknown_time_zone"), words
        assert "Europe/Birdland" in error["message"]
        assert "tzdata" in error["hint"]
    assert popug("doctor", PYTHONTZPATH=newer_data).returncode == 0
