"""The audit: every command with a change publishes an event with its actor, and the log can be filtered by actor."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest

from popug_cli import messages
from popug_cli.messages.base import Command, Role, declarations
from popug_cli.messages.billing import CloseDay, CorrectEntry, GetStatement
from popug_cli.messages.bus import DropDeadLetter, ListDeadLetters, ListEvents, ReplayEvents, RetryDeadLetters
from popug_cli.messages.company import SetSetting
from popug_cli.messages.identity import (
    ActivateUser,
    AddUser,
    DeactivateUser,
    ImportUsers,
    IssueToken,
    LogIn,
    LogOut,
    NewPerson,
    RecoverAdmin,
    RegisterFirstAdmin,
    RevokeToken,
    RotateKey,
    SetEmail,
    SetPassword,
    SetRole,
)
from popug_cli.messages.mail import RetryAllMails, RetryMail, SendMail
from popug_cli.messages.principal import OPERATOR, Principal
from popug_cli.messages.tasks import AddTask, CompleteTask, ImportTasks, NewTask, ShuffleTasks
from tests.support.company import PASSWORD
from tests.support.identity_company import CHEAP, People

for found in iter_modules(messages.__path__):
    import_module(f"{messages.__name__}.{found.name}")

ELSEWHERE = {"BackUp", "Restore", "CopyDatabase", "MigrateDatabase", "RunDue", "RunHooks", "RetryHook"}
# backup, restore, copies of the database, the scheduler's close, and hooks have their own tests
POISON = '{"id": "bad-%d", "type": "popug.identity.user_registered.v1", "subject": "bad-%d", "time": "x", "data": {}}'


class Story:
    """A company in which every command was run once; ``published`` has the events of each."""

    def __init__(self, root: Path) -> None:
        self.people = People(root)
        self.published: dict[str, set[tuple[str, str]]] = {}
        for play in (self._beginning, self._identity, self._work, self._mail, self._dead_letters):
            play()

    def give(self, message: Command[Any], by: Callable[[Command[Any]], Any] | None = None) -> Any:
        """Run a command as the boss, unless the table says otherwise."""
        head = self.people.head()
        answer = (by or (lambda asked: self.people.act("boss", asked)))(message)
        self.published[type(message).__name__] = {
            (row["type"].split(".")[2], row["actor"])
            for row in self.people.rows(
                f"SELECT type, json_extract(envelope, '$.actor') AS actor FROM bus_log WHERE sequence > {head}"
            )
        }
        return answer

    def alter(self, statement: str) -> None:
        with self.people.backend.runtime.writing(OPERATOR) as context:
            context.connection.execute(statement)

    def _beginning(self) -> None:
        first = self.people.backend.perform_as(OPERATOR, ListEvents(limit=1)).events[0]
        self.published[RegisterFirstAdmin.__name__] = {(first["type"].split(".")[2], first["actor"])}

    def _identity(self) -> None:
        perform = self.people.backend.perform
        self.give(AddUser(username="gosha", email="gosha@example.com", role="worker"))
        self.give(ImportUsers(people=[NewPerson(username="vera", email="vera@example.com", role="worker")]))
        self.give(SetRole(username="vera", role="manager"))
        self.give(SetEmail(username="vera", email="v@example.com"))
        self.give(DeactivateUser(username="vera"))
        self.give(ActivateUser(username="vera"))
        session = self.give(LogIn(username="kesha", password=PASSWORD), perform)
        self.give(LogOut(), lambda message: perform(message, session.token))
        session = self.people.log_in()
        self.give(SetPassword(password="another good one"), lambda message: perform(message, session.token))
        issued = self.give(IssueToken(username="kesha", ttl_seconds=60))
        self.give(RevokeToken(token_id=issued.token_id))
        self.give(RotateKey())
        self.give(RecoverAdmin(username="vera", password="a new beginning"), perform)
        self.give(SetSetting(key="mail.from", value="popug@example.com"), perform)

    def _work(self) -> None:
        self.give(AddTask(title="Feed the cage"))
        self.give(ImportTasks(lines=[NewTask(title="Mend the swing"), NewTask(title="Oil the hinge")]))
        self.give(ShuffleTasks())
        for number in range(4, 10):  # enough that at least one user is paid
            self.give(AddTask(title=f"Water plant {number}"))
        for number in range(1, 10):
            self._complete(number)
        name = self.people.rows("SELECT assignee_id FROM tasks_tasks WHERE number = 1")[0]["assignee_id"]
        (row,) = self.people.rows(f"SELECT username FROM identity_users WHERE user_id = '{name}'")
        statement = self.people.act("boss", GetStatement(username=row["username"]))
        reward = next(entry for entry in statement.entries if entry.kind == "reward")
        self.give(CorrectEntry(entry_id=reward.entry_id, reason="counted twice"))

    def _complete(self, number: int) -> None:
        (row,) = self.people.rows(
            f"SELECT username FROM tasks_tasks JOIN identity_users ON user_id = assignee_id WHERE number = {number}"
        )
        self.give(CompleteTask(number=number), lambda message: self._as(row["username"], message))

    def _as(self, username: str, message: Command[Any]) -> Any:
        (user,) = self.people.rows(f"SELECT user_id, role FROM identity_users WHERE username = '{username}'")
        return self.people.backend.perform_as(Principal(username, user["user_id"], Role(user["role"])), message)

    def _mail(self) -> None:
        self.give(CloseDay(send_mail=False))
        self.alter("UPDATE mail_outbox SET status = 'failed'")
        (row, *_) = self.people.rows("SELECT mail_id FROM mail_outbox")
        self.give(RetryMail(mail_id=row["mail_id"]))
        self.alter("UPDATE mail_outbox SET status = 'failed'")
        self.give(RetryAllMails())
        self.alter("UPDATE mail_outbox SET held = 1")
        self.give(SendMail(release=True))

    def _dead_letters(self) -> None:
        for number in (1, 2):
            self.alter(
                "INSERT INTO bus_log (sequence, envelope) SELECT max(sequence) + 1,"
                f" '{POISON % (number, number)}' FROM bus_log"
            )
        self.people.backend.catch_up()
        (first, *_) = self.people.act("boss", ListDeadLetters()).dead
        self.give(RetryDeadLetters(dead_id=first.dead_id))
        self.give(DropDeadLetter(dead_id=first.dead_id, reason="nobody is called so"))
        self.give(ReplayEvents())


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in (CHEAP | {"POPUG_BUS_MAX_ATTEMPTS": "1"}).items():
            patch.setenv(variable, value)
        yield Story(tmp_path_factory.mktemp("audit") / "home")


PUBLISHED = {
    "RegisterFirstAdmin": {("user_registered", "operator")},
    "RecoverAdmin": {("admin_recovered", "operator"), ("password_changed", "operator")},
    "SetSetting": {("setting_changed", "operator")},
    "LogIn": {("token_issued", "kesha")},
    "LogOut": {("token_revoked", "kesha")},
    "SetPassword": {("password_changed", "kesha"), ("token_revoked", "kesha")},
    "AddUser": {("user_registered", "boss")},
    "ImportUsers": {("user_registered", "boss")},
    "SetRole": {("user_role_changed", "boss")},
    "SetEmail": {("user_email_changed", "boss")},
    "DeactivateUser": {("user_deactivated", "boss")},
    "ActivateUser": {("user_reactivated", "boss")},
    "IssueToken": {("token_issued", "boss")},
    "RevokeToken": {("token_revoked", "boss")},
    "RotateKey": {("key_rotated", "boss")},
    "AddTask": {("task_created", "boss"), ("task_assigned", "boss"), ("task_priced", "boss"), ("entry_posted", "boss")},
    "ImportTasks": {("task_created", "boss"), ("task_assigned", "boss")},
    "ShuffleTasks": {("shuffle_requested", "boss"), ("tasks_shuffled", "boss"), ("entry_posted", "boss")},
    "CompleteTask": set(),
    "CorrectEntry": {("entry_posted", "boss")},
    "CloseDay": {("day_closed", "boss"), ("payout_made", "boss")},
    "RetryMail": {("mail_requeued", "boss")},
    "RetryAllMails": {("mail_requeued", "boss")},
    "SendMail": {("mail_released", "boss"), ("mail_sent", "boss")},
    "RetryDeadLetters": {("dead_letter_retried", "boss")},
    "DropDeadLetter": {("dead_letter_dropped", "boss")},
    "ReplayEvents": {("read_models_rebuilt", "boss")},
}  # fmt: skip


def test_every_command_is_in_the_audit() -> None:
    commands = {declaration.message.__name__ for declaration in declarations() if declaration.is_command}
    assert commands - ELSEWHERE == set(PUBLISHED)


@pytest.mark.parametrize("command", PUBLISHED)
def test_command_publishes_its_changes_with_the_actor(story: Story, command: str) -> None:
    assert story.published[command] >= PUBLISHED[command]
    assert story.published[command], "nothing was published"
    assert len({actor for _, actor in story.published[command]}) == 1


def test_log_is_filtered_by_actor(story: Story) -> None:
    everything = story.people.act("boss", ListEvents(limit=100_000)).events
    actors = {event["actor"] for event in everything if "actor" in event}
    assert {"operator", "boss", "kesha"} <= actors
    for actor in actors:
        asked = story.people.act("boss", ListEvents(actor=actor, limit=100_000)).events
        assert asked == [event for event in everything if event.get("actor") == actor]
    assert story.people.act("boss", ListEvents(actor="nobody-else")).events == []


def test_failed_retry_is_published_as_not_done(story: Story) -> None:
    (event,) = story.people.act("boss", ListEvents(type="dead_letter_retried")).events
    assert event["data"]["done"] is False
    assert event["data"]["event_id"].startswith("bad-")
