"""Permissions: every declared message, with every role and every kind of token, against the table of the rules."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, cast

import msgspec
import pytest

from popug_cli import messages
from popug_cli.app import handlers
from popug_cli.bus.context import Context
from popug_cli.identity.policy import STORED_TOKENS, Policy, policy_of
from popug_cli.kernel.errors import NotAllowed, NotAuthenticated
from popug_cli.messages.base import DECLARATIONS, Access, Declaration, Message, Role, declarations
from popug_cli.messages.identity import DeactivateUser, IssueToken, RevokeToken, Scope
from popug_cli.messages.principal import ANONYMOUS, OPERATOR, SCHEDULER, Principal
from tests.support.company import InProcess

for found in iter_modules(messages.__path__):
    import_module(f"{messages.__name__}.{found.name}")

W, A, M, D = "worker", "accountant", "manager", "admin"

# The table of domain.md: what each role may do (for a message that names a user: about that same user).
MAY = {
    "logout": (W, A, M, D),
    "whoami": (W, A, M, D),
    "today": (W, A, M, D),
    "user passwd": (W, A, M, D),
    "task add": (W, A, M, D),
    "task complete": (W, A, M, D),
    "task show": (W, A, M, D),
    "tasks list": (W, A, M, D),
    "tasks import": (W, A, M, D),
    "tasks export": (W, A, M, D),
    "tasks verify": (W, A, M, D),
    "tasks fairness": (W, A, M, D),
    "tasks shuffle": (M, D),
    "balance": (W, A, M, D),
    "statement": (W, A, M, D),
    "explain balance": (W, A, M, D),
    "explain task": (W, A, M, D),
    "explain income": (A, D),
    "income": (A, D),
    "ledger export": (A, D),
    "close-day": (A, D),
    "mail list": (A, D),
    "mail show": (A, D),
    "mail send": (A, D),
    "mail retry": (A, D),
    "analytics": (D,),
    "user add": (D,),
    "user import": (D,),
    "user list": (D,),
    "user show": (D,),
    "user set-role": (D,),
    "user set-email": (D,),
    "user deactivate": (D,),
    "user activate": (D,),
    "token issue": (D,),
    "token list": (D,),
    "token revoke": (D,),
    "token rotate": (D,),
    "events list": (D,),
    "events show": (D,),
    "events follow": (D,),
    "events status": (D,),
    "events dead": (D,),
    "events retry": (D,),
    "events drop": (D,),
    "events replay": (D,),
    "events trace": (D,),
    "ledger correct": (D,),
}
# What a role may do about other users, if that is less than about the user's own data.
MAY_FOR_OTHERS = {
    "balance": (A, D),
    "statement": (A, D),
    "explain balance": (A, D),
    "task show": (A, D),
    "user passwd": (D,),
}
WITHOUT_A_TOKEN = {"login", "permissions", "events schemas", "events schemas --asyncapi", "token keys"}
OPERATORS = {
    *("init", "recover", "doctor", "ledger verify", "backup", "restore", "config show", "config set"),
    *("database copy", "database migrate"),
    *("hooks list", "hooks test", "hooks retry", "scheduler", "scheduler install", "serve", "serve install", "demo"),
}
CLOSE_DAY_MAY = {"close-day", "mail send"}

every_declaration = pytest.mark.parametrize("declaration", [*declarations()], ids=lambda each: each.name)
GUARDED = [each for each in declarations() if each.access is Access.TOKEN]
every_guarded = pytest.mark.parametrize("declaration", GUARDED, ids=lambda each: each.name)
IN_A_TRANSACTION = [each for each in GUARDED if each.is_command and each.message not in handlers.HANDLER_MODULES]
NO_TRANSACTION = cast(Context, None)


def example(declaration: Declaration, about: str | None) -> Message[Any]:
    """Make a message of that kind about a user; its other fields are dummies, since it is never performed."""
    fields = msgspec.structs.fields(declaration.message)
    needed = {field.name: "x" for field in fields if field.required}
    named = {"username": about} if names_a_person(declaration) else {}
    return declaration.message(**needed | named)


def names_a_person(declaration: Declaration) -> bool:
    return "username" in declaration.message.__struct_fields__


def is_admitted(
    principal: Principal, declaration: Declaration, message: Message[Any], policy: Policy = STORED_TOKENS
) -> bool:
    try:
        policy.authorize(principal, declaration, message, NO_TRANSACTION)
    except NotAllowed:
        return False
    return True


def holder(role: str, scope: str | None = None) -> Principal:
    return Principal("kesha", "user-1", Role(role), scope=scope)


# --- the table ----------------------------------------------------------------------------------


@every_declaration
def test_message_is_guarded_as_the_rules_say(declaration: Declaration) -> None:
    expected = {
        **dict.fromkeys(MAY, Access.TOKEN),
        **dict.fromkeys(WITHOUT_A_TOKEN, Access.PUBLIC),
        **dict.fromkeys(OPERATORS, Access.OPERATOR),
    }
    assert declaration.access is expected[declaration.command_line]


@pytest.mark.parametrize("role", [W, A, M, D])
@every_guarded
def test_role_is_admitted_for_own_data_as_in_the_table(declaration: Declaration, role: str) -> None:
    for name in ("kesha", "KeSha", None):
        admitted = is_admitted(holder(role), declaration, example(declaration, name))
        assert admitted is (role in MAY[declaration.command_line])


@pytest.mark.parametrize("role", [W, A, M, D])
@pytest.mark.parametrize("declaration", [each for each in GUARDED if names_a_person(each)], ids=lambda each: each.name)
def test_role_is_admitted_for_others_as_in_the_table(declaration: Declaration, role: str) -> None:
    allowed = MAY_FOR_OTHERS.get(declaration.command_line, MAY[declaration.command_line])
    assert is_admitted(holder(role), declaration, example(declaration, "gosha")) is (role in allowed)


@every_guarded
def test_scoped_token_is_admitted_only_within_its_scope(declaration: Declaration) -> None:
    admitted = {role for role in MAY[declaration.command_line] if is_admitted(
        holder(role, Scope.CLOSE_DAY), declaration, example(declaration, "kesha"))}  # fmt: skip
    assert admitted == (set(MAY[declaration.command_line]) if declaration.command_line in CLOSE_DAY_MAY else set())


@every_guarded
def test_every_service_admits_the_same_roles_and_scopes(declaration: Declaration) -> None:
    for policy in map(policy_of, ("identity", "tasks", "billing", "analytics", "mail")):
        for role in (W, A, M, D):
            for scope in (None, Scope.CLOSE_DAY, "everything"):
                for about in ("kesha", "gosha"):
                    case = holder(role, scope), declaration, example(declaration, about)
                    assert is_admitted(*case, policy) is is_admitted(*case)


@every_guarded
def test_scope_adds_no_right_to_the_role(declaration: Declaration) -> None:
    for role in {W, A, M, D} - set(MAY[declaration.command_line]):
        assert not is_admitted(holder(role, Scope.CLOSE_DAY), declaration, example(declaration, "kesha"))


@every_guarded
def test_unknown_scope_admits_nothing(declaration: Declaration) -> None:
    assert not is_admitted(holder(D, "everything"), declaration, example(declaration, "kesha"))


@every_guarded
def test_operator_and_scheduler_admitted_anonymous_refused(declaration: Declaration) -> None:
    message = example(declaration, "kesha")
    admitted = [is_admitted(principal, declaration, message) for principal in (OPERATOR, SCHEDULER, ANONYMOUS)]
    assert admitted == [True, True, False]


def test_user_named_operator_has_no_extra_right() -> None:
    declaration = DECLARATIONS[DeactivateUser]
    assert not is_admitted(Principal("operator", "user-1", Role.WORKER), declaration, example(declaration, "gosha"))


# --- tokens -------------------------------------------------------------------------------------


class Tokens:
    """A company with valid and invalid tokens of each role."""

    def __init__(self, root: Path) -> None:
        self.company = InProcess(root)
        for role in Role:
            self.company.hire(f"a-{role}", role)
        self.good = {role.value: self._issue(f"a-{role}") for role in Role}
        self.scoped = {role.value: self._issue(f"a-{role}", scope=Scope.CLOSE_DAY) for role in Role}
        self.revoked = self._issue("a-admin")
        self.expired = self._issue("a-admin", ttl_seconds=1)
        (line,) = self.company.rows("SELECT token_id FROM identity_tokens ORDER BY rowid DESC LIMIT 1 OFFSET 1")
        self.company.act("boss", RevokeToken(token_id=line["token_id"]))
        self.company.clock.advance(minutes=1)

    def _issue(self, name: str, ttl_seconds: int = 3600, scope: Scope | None = None) -> str:
        return self.company.act("boss", IssueToken(username=name, ttl_seconds=ttl_seconds, scope=scope)).token

    def refusal(self, message: Message[Any], token: str | None) -> str:
        """Return the code of the error with which a message is refused."""
        with pytest.raises((NotAllowed, NotAuthenticated)) as error:
            self.company.backend.perform(message, token)
        return error.value.code


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POPUG_IDENTITY_ARGON2_MEMORY_KIB", "8192")
        yield Tokens(tmp_path_factory.mktemp("permissions"))


@every_guarded
def test_message_refused_without_a_valid_token(tokens: Tokens, declaration: Declaration) -> None:
    message = example(declaration, "a-admin")
    assert tokens.refusal(message, None) == "not_logged_in"
    assert tokens.refusal(message, "polly.wants.crackers") == "token_invalid"
    assert tokens.refusal(message, tokens.expired) == "token_expired"
    assert tokens.refusal(message, tokens.revoked) == "token_revoked"


@every_guarded
def test_message_refused_for_token_of_another_role_or_scope(tokens: Tokens, declaration: Declaration) -> None:
    for role in {W, A, M, D} - set(MAY[declaration.command_line]):
        assert tokens.refusal(example(declaration, f"a-{role}"), tokens.good[role]) == "forbidden"
    if declaration.command_line not in CLOSE_DAY_MAY:
        for role in (W, A, M, D):
            assert tokens.refusal(example(declaration, f"a-{role}"), tokens.scoped[role]) == "forbidden"


@pytest.mark.parametrize("declaration", IN_A_TRANSACTION, ids=lambda each: each.name)
def test_command_in_process_is_judged_by_its_role_too(tokens: Tokens, declaration: Declaration) -> None:
    for role in {W, A, M, D} - set(MAY[declaration.command_line]):
        with pytest.raises(NotAllowed) as error:
            tokens.company.act(f"a-{role}", example(declaration, f"a-{role}"))
        assert (error.value.code, error.value.exit_status) == ("forbidden", 5)
        assert error.value.message.endswith(".")
