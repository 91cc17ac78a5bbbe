"""What is said to and by identity: people, roles, sessions, tokens."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum

import msgspec

from popug_cli.messages.base import (
    ADMINS,
    EVERYONE,
    Access,
    Command,
    Event,
    Id,
    ImportResult,
    Nothing,
    Query,
    Role,
    declare,
    event,
)


class User(msgspec.Struct, frozen=True):
    """A person, as everybody with the right to see people sees them."""

    user_id: str
    username: str
    email: str
    role: Role
    active: bool


class Users(msgspec.Struct, frozen=True):
    """All people, by username."""

    users: list[User]


class Session(msgspec.Struct, frozen=True):
    """A fresh login; the token is a secret."""

    user: User
    token: str
    expires_at: datetime


class NewPerson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of an import of people."""

    username: str
    email: str
    role: str


class IssuedToken(msgspec.Struct, frozen=True):
    """A token for a machine, shown once."""

    token_id: str
    token: str
    expires_at: datetime
    scope: str | None


class TokenLine(msgspec.Struct, frozen=True):
    """What is known of a token; never the token itself. ``kind`` is ``session`` or ``machine``."""

    token_id: str
    username: str
    kind: str
    scope: str | None
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class Tokens(msgspec.Struct, frozen=True):
    """The tokens that have not expired, latest first."""

    tokens: list[TokenLine]


class KeySet(msgspec.Struct, frozen=True):
    """The public keys as a JWK set (RFC 7517)."""

    keys: list[dict[str, str]]


class RotatedKey(msgspec.Struct, frozen=True):
    """The id of the key that signs from now on."""

    kid: str


class Scope(StrEnum):
    """What a machine's token may be limited to."""

    CLOSE_DAY = "close-day"


@declare("init", access=Access.OPERATOR)
class RegisterFirstAdmin(Command[User], frozen=True, kw_only=True):
    """Register the first person, an admin, while there is nobody."""

    username: str
    email: str
    password: str


@declare("recover", access=Access.OPERATOR)
class RecoverAdmin(Command[User], frozen=True, kw_only=True):
    """Make a person an active admin again, with a new password: the operator's way back."""

    username: str
    password: str


@declare("login", access=Access.PUBLIC)
class LogIn(Command[Session], frozen=True, kw_only=True):
    """Prove who one is by a password, for a token."""

    username: str
    password: str


@declare("logout", roles=EVERYONE)
class LogOut(Command[Nothing], frozen=True):
    """Revoke one's own token."""


@declare("whoami", roles=EVERYONE)
class WhoAmI(Query[User], frozen=True):
    """Ask who the token belongs to."""


@declare("user add", roles=ADMINS)
class AddUser(Command[User], frozen=True, kw_only=True):
    """Register a person; without a password they cannot log in until they have one."""

    username: str
    email: str
    role: str
    password: str | None = None


@declare("user import", roles=ADMINS)
class ImportUsers(Command[ImportResult], frozen=True, kw_only=True):
    """Register many people at once, all or none; those who are there just so are skipped.

    ``people`` has a place for each line of the file, with None where the line was blank.
    """

    people: Collection[NewPerson | None]


@declare("user list", roles=ADMINS)
class ListUsers(Query[Users], frozen=True):
    """Ask for everybody."""


@declare("user show", roles=ADMINS)
class ShowUser(Query[User], frozen=True, kw_only=True):
    """Ask for one person."""

    username: str


@declare("user set-role", roles=ADMINS)
class SetRole(Command[User], frozen=True, kw_only=True):
    """Give a person another role; all their tokens are revoked."""

    username: str
    role: str


@declare("user set-email", roles=ADMINS)
class SetEmail(Command[User], frozen=True, kw_only=True):
    """Give a person another address."""

    username: str
    email: str


@declare("user deactivate", roles=ADMINS)
class DeactivateUser(Command[User], frozen=True, kw_only=True):
    """Take a person out of the game; all their tokens are revoked."""

    username: str


@declare("user activate", roles=ADMINS)
class ActivateUser(Command[User], frozen=True, kw_only=True):
    """Take a person back into the game."""

    username: str


@declare("user passwd", roles=EVERYONE, roles_for_others=ADMINS)
class SetPassword(Command[User], frozen=True, kw_only=True):
    """Set a password, one's own where nobody is named; the sessions of that person end."""

    password: str
    username: str | None = None


@declare("token issue", roles=ADMINS)
class IssueToken(Command[IssuedToken], frozen=True, kw_only=True):
    """Make a token for a machine that acts as a person."""

    username: str
    ttl_seconds: int
    scope: Scope | None = None


@declare("token list", roles=ADMINS)
class ListTokens(Query[Tokens], frozen=True):
    """Ask for the tokens that are not expired."""


@declare("token revoke", roles=ADMINS)
class RevokeToken(Command[Nothing], frozen=True, kw_only=True):
    """End one token."""

    token_id: str


@declare("token keys", access=Access.PUBLIC)
class ShowKeys(Query[KeySet], frozen=True):
    """Ask for the public keys."""


@declare("token rotate", roles=ADMINS)
class RotateKey(Command[RotatedKey], frozen=True):
    """Sign with a new key from now on; tokens of the old one stay good until they expire."""


@event("identity", 1, subject_field="user_id")
class UserRegistered(Event, frozen=True, kw_only=True):
    """Somebody joined."""

    user_id: Id
    username: str
    email: str
    role: Role


@event("identity", 1, subject_field="user_id")
class UserRoleChanged(Event, frozen=True, kw_only=True):
    """Somebody has another role now."""

    user_id: Id
    old_role: Role
    new_role: Role


@event("identity", 1, subject_field="user_id")
class UserEmailChanged(Event, frozen=True, kw_only=True):
    """Somebody has another address now."""

    user_id: Id
    email: str


@event("identity", 1, subject_field="user_id")
class UserDeactivated(Event, frozen=True, kw_only=True):
    """Somebody left the game."""

    user_id: Id


@event("identity", 1, subject_field="user_id")
class UserReactivated(Event, frozen=True, kw_only=True):
    """Somebody is back in the game."""

    user_id: Id


@event("identity", 1, subject_field="user_id")
class PasswordChanged(Event, frozen=True, kw_only=True):
    """Somebody's password was set; by whom is the actor."""

    user_id: Id


@event("identity", 1, subject_field="user_id")
class AdminRecovered(Event, frozen=True, kw_only=True):
    """The operator made somebody an active admin with a new password."""

    user_id: Id
    username: str


@event("identity", 1, subject_field="token_id")
class TokenIssued(Event, frozen=True, kw_only=True):
    """A token was made; ``kind`` is session or machine."""

    token_id: Id
    user_id: Id
    kind: str
    expires_at: datetime
    scope: str | None = None


@event("identity", 1, subject_field="token_id")
class TokenRevoked(Event, frozen=True, kw_only=True):
    """A token ended before its time."""

    token_id: Id
    user_id: Id
    reason: str


@event("identity", 1, subject_field="kid")
class KeyRotated(Event, frozen=True, kw_only=True):
    """Tokens are signed with another key from now on."""

    kid: Id


@event("identity", 1, subject_field="key")
class SettingChanged(Event, frozen=True, kw_only=True):
    """A setting of the home was written."""

    key: str
    value: str | int | bool
