"""A command sent again under its key takes effect once, and gets the same answer."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from popug_cli.bus import idempotency_store
from popug_cli.bus.context import Context
from popug_cli.kernel.errors import Conflict, InvalidInput, NotAllowed, NotFound
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.identity import AddUser, IssueToken, LogIn, SetPassword, SetRole
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.messages.tasks import AddTask, CompleteTask, ListTasks, ShuffleTasks
from tests.support.running_server import create_home
from tests.support.server_fixture import PASSWORD, ServerFixture

FEED = AddTask(title="Feed the cage")


@pytest.fixture
def residence(tmp_path: Path) -> Iterator[ServerFixture]:
    found = create_home(tmp_path / "home")
    found.open()
    yield found
    found.close()


class KilledError(BaseException):
    """The process is killed here."""


def die(*_: Any, **__: Any) -> None:
    raise KilledError


def answer_of(performed: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(performed.answer))


def tasks(residence: ServerFixture) -> int:
    return int(residence.rows("SELECT count(*) AS n FROM tasks_tasks")[0]["n"])


def test_repeated_command_returns_stored_answer(residence: ServerFixture) -> None:
    first = residence.perform("kesha", FEED, key="k1")
    again = residence.perform("kesha", FEED, key="k1")
    assert (first.is_replayed, again.is_replayed) == (False, True)
    assert answer_of(first) == answer_of(again)
    assert tasks(residence) == 1


def test_stored_answer_is_returned_after_later_changes(residence: ServerFixture) -> None:
    first = answer_of(residence.perform("kesha", FEED, key="k1"))
    residence.perform(first["assignee"], CompleteTask(number=1), key="k2")
    assert answer_of(residence.perform("kesha", FEED, key="k1")) == first


def test_answer_stored_during_lookup_is_returned(residence: ServerFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    first = answer_of(residence.perform("kesha", FEED, key="k1"))
    residence.perform(first["assignee"], CompleteTask(number=1), key="k2")
    find = idempotency_store.find

    def find_slowly(
        context: Context, request: idempotency_store.IdempotentCommand
    ) -> idempotency_store.StoredAnswer | None:
        found = find(context, request)
        residence.served_company.follow(print)
        return found

    monkeypatch.setattr(idempotency_store, "find", find_slowly)
    assert answer_of(residence.perform("kesha", FEED, key="k1")) == first


def test_answer_is_stored_when_the_server_ends(residence: ServerFixture) -> None:
    first = answer_of(residence.perform("kesha", FEED, key="k1"))
    residence.perform(first["assignee"], CompleteTask(number=1), key="k2")
    residence.served_company.close()
    residence.open()
    assert answer_of(residence.perform("kesha", FEED, key="k1")) == first


def test_answer_is_stored_soon(residence: ServerFixture) -> None:
    residence.perform("kesha", FEED, key="k1")
    residence.served_company.follow(print)
    assert [row["answer"] is None for row in residence.rows("SELECT answer FROM bus_replies")] == [False]


def test_command_without_a_key_is_done_again(residence: ServerFixture) -> None:
    residence.perform("kesha", FEED)
    residence.perform("kesha", FEED)
    residence.perform("kesha", FEED, key="another")
    assert tasks(residence) == 3


def test_key_belongs_to_a_person_and_a_message(residence: ServerFixture) -> None:
    residence.perform("kesha", FEED, key="k")
    residence.perform("asya", FEED, key="k")
    residence.perform("mango", ShuffleTasks(), key="k")
    assert tasks(residence) == 2
    assert len(residence.rows("SELECT * FROM bus_replies")) == 3


def test_another_body_under_the_same_key_is_a_conflict(residence: ServerFixture) -> None:
    residence.perform("kesha", FEED, key="k")
    with pytest.raises(Conflict) as refused:
        residence.perform("kesha", AddTask(title="Polish the perch"), key="k")
    assert refused.value.code == "idempotency_conflict"
    assert refused.value.message == "The same Idempotency-Key was used for this command with other arguments before."
    assert refused.value.hint == "Use a new key for each command. Repeat a key only to send the same command again."
    assert refused.value.details == {"idempotency_key": "k"}
    assert tasks(residence) == 1


@pytest.mark.parametrize(
    "message",
    [
        AddUser(username="rio", email="rio@example.com", role="worker"),
        SetPassword(password=PASSWORD),
        IssueToken(username="ada", ttl_seconds=60),
    ],
)
def test_key_refused_for_a_secret_command(residence: ServerFixture, message: Message[Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        residence.perform("ada", message, key="k")
    assert refused.value.code == "invalid_idempotency_key"
    assert "carries or returns a secret, which is not stored" in refused.value.message
    assert refused.value.hint == "Omit the key."
    assert residence.rows("SELECT * FROM bus_replies") == []


def test_login_takes_no_key(residence: ServerFixture) -> None:
    with pytest.raises(InvalidInput):
        residence.served_company.perform(LogIn(username="ada", password=PASSWORD), None, key="k")


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb"])
def test_key_is_a_short_visible_text(residence: ServerFixture, key: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        residence.perform("kesha", FEED, key=key)
    assert refused.value.code == "invalid_idempotency_key"
    assert refused.value.message == (
        "The Idempotency-Key is not accepted: the key is not 1 to 255 printable ASCII characters."
    )
    assert refused.value.hint == "Use a new UUID for each command."


@pytest.mark.parametrize("key", ["x", "x" * 255, " ~"])
def test_key_may_be_one_or_many_visible_characters(residence: ServerFixture, key: str) -> None:
    residence.perform("kesha", FEED, key=key)
    assert residence.perform("kesha", FEED, key=key).is_replayed


def test_query_ignores_the_key(residence: ServerFixture) -> None:
    assert not residence.perform("kesha", ListTasks(), key="k").is_replayed
    assert residence.rows("SELECT * FROM bus_replies") == []


def test_refusal_is_not_kept(residence: ServerFixture) -> None:
    with pytest.raises(NotFound):
        residence.perform("kesha", CompleteTask(number=1), key="k")
    assignee = answer_of(residence.perform("kesha", FEED))["assignee"]
    if assignee == "kesha":
        assert answer_of(residence.perform("kesha", CompleteTask(number=1), key="k"))["status"] == "completed"
    assert len(residence.rows("SELECT * FROM bus_replies")) == (assignee == "kesha")


def test_two_concurrent_commands_with_one_key_run_once(residence: ServerFixture) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(residence.perform, "kesha", FEED, key="same") for _ in range(16)]
    answers = [answer_of(each.result()) for each in found]
    assert all(answer == answers[0] for answer in answers)
    assert sum(not each.result().is_replayed for each in found) == 1
    assert tasks(residence) == 1


def test_crash_after_commit_is_answered_from_the_effect(
    residence: ServerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server dies when the task is in the database and the answer is not composed yet."""

    with monkeypatch.context() as patched:
        patched.setattr("popug_cli.app.local_backend.catch_up", die)
        with pytest.raises(KilledError):
            residence.perform("kesha", FEED, key="k")
    residence.served_company.close()
    residence.open()
    again = residence.perform("kesha", FEED, key="k")
    assert again.is_replayed
    assert (answer_of(again)["number"], answer_of(again)["title"]) == (1, "Feed the cage")
    assert answer_of(again)["fee_cents"] >= 1000
    assert tasks(residence) == 1


def test_crash_before_commit_leaves_no_effect_and_no_answer(
    residence: ServerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("popug_cli.bus.idempotency_store.save", die)
        with pytest.raises(KilledError):
            residence.perform("kesha", FEED, key="k")
    assert tasks(residence) == 0
    assert not residence.perform("kesha", FEED, key="k").is_replayed
    assert tasks(residence) == 1


def test_repeated_close_returns_the_first_answer(residence: ServerFixture) -> None:
    first = residence.perform("asya", CloseDay(), key="k")
    again = residence.perform("asya", CloseDay(), key="k")
    assert answer_of(first) == answer_of(again)
    assert answer_of(again)["days"][0]["already_closed"] is False
    assert again.is_replayed


def test_stored_answer_refused_after_right_is_lost(residence: ServerFixture) -> None:
    residence.perform("mango", ShuffleTasks(), key="k")
    residence.perform("ada", SetRole(username="mango", role="worker"))
    issued = residence.perform("ada", IssueToken(username="mango", ttl_seconds=60)).answer
    with pytest.raises(NotAllowed):
        residence.served_company.perform(ShuffleTasks(), issued.token, key="k")


def test_stored_answer_expires_after_a_day(residence: ServerFixture) -> None:
    residence.perform("kesha", FEED, key="old")
    with residence.local.runtime.writing(ANONYMOUS) as context:
        context.connection.execute("UPDATE bus_replies SET kept_at = '2026-01-01T00:00:00.000000Z'")
    assert not residence.perform("kesha", FEED, key="old").is_replayed
    assert tasks(residence) == 2
    assert len(residence.rows("SELECT * FROM bus_replies")) == 1


def test_stored_answer_decodes_its_query() -> None:
    reply = idempotency_store.StoredAnswer("", None, "list_tasks", '{"limit":3}')
    assert reply.next_query() == ListTasks(limit=3)
