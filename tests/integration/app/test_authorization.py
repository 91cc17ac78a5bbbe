"""Authorization: no handler is reached by a message without permission."""

from collections.abc import Collection
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from popug_cli.app import LocalBackend, handlers
from popug_cli.app.handlers import MessageHandler
from popug_cli.kernel.errors import NotAllowed, NotAuthenticated, PopugError
from popug_cli.messages.base import Access, Declaration, Message, Role, declarations
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import DropDeadLetter, ReplayEvents, RetryDeadLetters
from popug_cli.messages.identity import AddUser, IssueToken, RevokeToken
from popug_cli.messages.mail import SendMail
from tests.support.company import InProcess

STAFF = {"wanda": Role.WORKER, "asya": Role.ACCOUNTANT, "mango": Role.MANAGER, "ada": Role.ADMIN}
WITH_TOKEN = [declaration for declaration in declarations() if declaration.access is Access.TOKEN]
every_message = pytest.mark.parametrize("declaration", WITH_TOKEN, ids=lambda declaration: declaration.name)
every_role = pytest.mark.parametrize("username", STAFF)
COMPOSED_WRITES: list[Message[Any]] = [
    CloseDay(),
    CloseDay(dry_run=True),
    SendMail(),
    RetryDeadLetters(),
    DropDeadLetter(dead_id=1, reason="never needed"),
    ReplayEvents(),
]


SESSIONS_ONLY = {"set_password", "issue_token"}  # the tokens of the staff are machine tokens


class Staff:
    """A company with a user and a token for each role, and one revoked token."""

    def __init__(self, root: Path) -> None:
        self.company = InProcess(root)
        for name, role in STAFF.items():
            self.company.act("boss", AddUser(username=name, email=f"{name}@example.com", role=role))
        issued = {name: self.company.act("boss", IssueToken(username=name, ttl_seconds=86_400)) for name in STAFF}
        self.tokens = {name: answer.token for name, answer in issued.items()}
        revoked = self.company.act("boss", IssueToken(username="ada", ttl_seconds=86_400))
        self.company.act("boss", RevokeToken(token_id=revoked.token_id))
        self.revoked = revoked.token

    def events(self) -> int:
        """Return how many events there are."""
        (row,) = self.company.rows("SELECT count(*) AS events FROM bus_log")
        return int(row["events"])


@pytest.fixture(scope="module")
def staff(tmp_path_factory: pytest.TempPathFactory) -> Staff:
    return Staff(tmp_path_factory.mktemp("staff") / "home")


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the names of the messages whose handler is called; the handlers do nothing."""
    calls: list[str] = []
    find = handlers.find

    def find_recorder(message: type[Message[Any]]) -> MessageHandler:
        handler = find(message)

        def record(*_: Any) -> None:
            calls.append(handler.declaration.name)

        return MessageHandler(handler.declaration, record, takes_backend=handler.takes_backend)

    monkeypatch.setattr(handlers, "find", find_recorder)
    return calls


def sample(declaration: Declaration, username: str) -> Message[Any]:
    """Return a message of that kind, about a user if it can be about one."""
    shape = declaration.message
    hints = get_type_hints(shape)
    values = {field.name: value_of(hints[field.name]) for field in msgspec.structs.fields(shape) if field.required}
    if "username" in shape.__struct_fields__:
        values["username"] = username
    return shape(**values)


def value_of(hint: Any) -> Any:
    """Return some value of a type."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    values = {str: "x", int: 1, bool: True, date: date(2026, 3, 2), datetime: datetime(2026, 3, 2, tzinfo=UTC)}
    if hint in values:
        return values[hint]
    origin = get_origin(hint)
    return [] if origin in (list, tuple, Collection) else value_of(get_args(hint)[0])


@every_message
def test_revoked_token_reaches_no_handler(declaration: Declaration, staff: Staff, reached: list[str]) -> None:
    before = staff.events()
    with pytest.raises(NotAuthenticated) as refused:
        staff.company.backend.perform(sample(declaration, "ada"), staff.revoked)
    assert (refused.value.code, reached, staff.events()) == ("token_revoked", [], before)


@every_message
@every_role
def test_handler_reached_by_declared_roles_only(
    declaration: Declaration, username: str, staff: Staff, reached: list[str]
) -> None:
    for about in (username, "wanda" if username != "wanda" else "ada"):
        reached.clear()
        message = sample(declaration, about)
        names_another = getattr(message, "username", username) != username
        roles = declaration.roles_for_others if names_another else declaration.roles
        if STAFF[username] in roles and declaration.name not in SESSIONS_ONLY:
            staff.company.backend.perform(message, staff.tokens[username])
            assert reached == [declaration.name]
            continue
        with pytest.raises(NotAllowed) as refused:
            staff.company.backend.perform(message, staff.tokens[username])
        assert (refused.value.code, reached) == ("forbidden", [])


@every_message
def test_missing_token_reaches_no_handler(declaration: Declaration, staff: Staff, reached: list[str]) -> None:
    with pytest.raises(NotAuthenticated) as refused:
        staff.company.backend.perform(sample(declaration, "ada"), None)
    assert (refused.value.code, reached) == ("not_logged_in", [])


def test_every_kind_of_message_has_a_sample() -> None:
    assert len(WITH_TOKEN) > 40
    for declaration in WITH_TOKEN:
        encoded = msgspec.json.encode(sample(declaration, "ada"))
        assert msgspec.json.decode(encoded, type=declaration.message) == sample(declaration, "ada")


@pytest.fixture
def own_staff(tmp_path: Path) -> Staff:
    return Staff(tmp_path / "home")


@pytest.mark.parametrize("message", COMPOSED_WRITES, ids=lambda message: type(message).__name__)
def test_token_revoked_before_the_write_changes_nothing(
    message: Message[Any], own_staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot still shows the token as valid; it is revoked before the write transaction begins."""
    company, backend = own_staff.company, own_staff.company.backend
    token = company.act("boss", IssueToken(username="ada", ttl_seconds=86_400))
    check = LocalBackend._check_on_snapshot
    counted: list[int] = []

    def check_then_revoke(self: LocalBackend, principal: Any, checked: Message[Any]) -> None:
        check(self, principal, checked)
        if not counted:
            monkeypatch.setattr(LocalBackend, "_check_on_snapshot", check)
            company.act("boss", RevokeToken(token_id=token.token_id))
            counted.append(own_staff.events())

    monkeypatch.setattr(LocalBackend, "_check_on_snapshot", check_then_revoke)
    with pytest.raises(PopugError) as refused:
        backend.perform(message, token.token)
    assert refused.value.code == "token_revoked"
    assert own_staff.events() == counted[0]
