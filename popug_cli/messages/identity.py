"""Messages of identity: users, roles, sessions, tokens."""

from collections.abc import Collection
from datetime import datetime
from enum import StrEnum

import msgspec

from popug_cli.messages.base import (
    ADMINS,
    EVERYONE,
    Access,
    Command,
    Count,
    Event,
    Id,
    ImportResult,
    Limit,
    Nothing,
    Query,
    Role,
    declare,
    event,
)


class User(msgspec.Struct, frozen=True):
    """A user."""

    user_id: str
    username: str
    email: str
    role: Role
    active: bool


class Users(msgspec.Struct, frozen=True):
    """Users, by username."""

    users: list[User]


class Session(msgspec.Struct, frozen=True):
    """A new login; both tokens are secrets.

    ``device_token`` proves at the next login that this device has logged in before. It permits nothing else.
    """

    user: User
    token: str
    expires_at: datetime
    device_token: str


class UserWithNewPassword(User, frozen=True):
    """A user whose password was set, and the machine tokens that stay valid, latest first."""

    machine_tokens: "list[TokenLine]"


class NewPerson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of an import of users."""

    username: str
    email: str
    role: str


class IssuedToken(msgspec.Struct, frozen=True):
    """A machine token; it is shown only once."""

    token_id: str
    token: str
    expires_at: datetime
    scope: str | None


class TokenLine(msgspec.Struct, frozen=True):
    """The properties of a token, never the token itself. ``kind`` is ``session`` or ``machine``."""

    token_id: str
    username: str
    kind: str
    scope: str | None
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None


class Tokens(msgspec.Struct, frozen=True):
    """The tokens that have not expired, revoked ones included, latest first."""

    tokens: list[TokenLine]


class KeySet(msgspec.Struct, frozen=True):
    """The public keys as a JWK set (RFC 7517)."""

    keys: list[dict[str, str]]


class RotatedKey(msgspec.Struct, frozen=True):
    """The id of the key that signs new tokens."""

    kid: str


class Scope(StrEnum):
    """The scopes to which a machine token can be limited."""

    CLOSE_DAY = "close-day"


@declare("init", access=Access.OPERATOR)
class RegisterFirstAdmin(Command[User], frozen=True, kw_only=True):
    """Register the first user, an admin; refused if there is a user already."""

    username: str
    email: str
    password: str


@declare("recover", access=Access.OPERATOR)
class RecoverAdmin(Command[User], frozen=True, kw_only=True):
    """Make a user an active admin with a new password; only the operator can do this."""

    username: str
    password: str


@declare("login", access=Access.PUBLIC)
class LogIn(Command[Session], frozen=True, kw_only=True):
    """Log in with a password and get a token.

    With the ``device_token`` of an earlier login as this user, wrong passwords from other devices do not delay it.
    """

    username: str
    password: str
    device_token: str | None = None


@declare("logout", roles=EVERYONE)
class LogOut(Command[Nothing], frozen=True):
    """Revoke the token that is used for this request."""


@declare("whoami", roles=EVERYONE)
class WhoAmI(Query[User], frozen=True):
    """Return the user of the token."""


@declare("user add", roles=ADMINS)
class AddUser(Command[User], frozen=True, kw_only=True):
    """Register a user; without a password the user cannot log in yet. A machine token may not set a password."""

    username: str
    email: str
    role: str
    password: str | None = None


@declare("user import", roles=ADMINS)
class ImportUsers(Command[ImportResult], frozen=True, kw_only=True):
    """Register many users at once, all or none; users who exist with the same data are skipped.

    ``people`` has an item for each line of the file, None for a blank line.
    """

    people: Collection[NewPerson | None]


@declare("user list", roles=ADMINS)
class ListUsers(Query[Users], frozen=True, kw_only=True):
    """Return all users. An answer has at most 10,000 users; ``offset`` asks for the rest."""

    limit: Limit | None = None
    offset: Count = 0


@declare("user show", roles=ADMINS)
class ShowUser(Query[User], frozen=True, kw_only=True):
    """Return one user."""

    username: str


@declare("user set-role", roles=ADMINS)
class SetRole(Command[User], frozen=True, kw_only=True):
    """Change the role of a user; all tokens of the user are revoked."""

    username: str
    role: str


@declare("user set-email", roles=ADMINS)
class SetEmail(Command[User], frozen=True, kw_only=True):
    """Change the e-mail address of a user."""

    username: str
    email: str


@declare("user deactivate", roles=ADMINS)
class DeactivateUser(Command[User], frozen=True, kw_only=True):
    """Deactivate a user; all tokens of the user are revoked."""

    username: str


@declare("user activate", roles=ADMINS)
class ActivateUser(Command[User], frozen=True, kw_only=True):
    """Activate a deactivated user."""

    username: str


@declare("user passwd", roles=EVERYONE, roles_for_others=ADMINS)
class SetPassword(Command[UserWithNewPassword], frozen=True, kw_only=True):
    """Set a user's password, by default the sender's own; the user's sessions are revoked, machine tokens are not.

    A machine token may not set a password.
    """

    password: str
    username: str | None = None


@declare("token issue", roles=ADMINS)
class IssueToken(Command[IssuedToken], frozen=True, kw_only=True):
    """Issue a machine token that acts as a user.

    A machine token may not issue one. A token for the sender lives at most 31 days, unless it has a scope.
    """

    username: str
    ttl_seconds: int
    scope: Scope | None = None


@declare("token list", roles=ADMINS)
class ListTokens(Query[Tokens], frozen=True, kw_only=True):
    """Return the tokens that have not expired, revoked ones included.

    An answer has at most 10,000 tokens; ``offset`` asks for the rest.
    """

    limit: Limit | None = None
    offset: Count = 0


@declare("token revoke", roles=ADMINS)
class RevokeToken(Command[Nothing], frozen=True, kw_only=True):
    """Revoke one token."""

    token_id: str


@declare("token keys", access=Access.PUBLIC)
class ShowKeys(Query[KeySet], frozen=True):
    """Return the public keys."""


@declare("token rotate", roles=ADMINS)
class RotateKey(Command[RotatedKey], frozen=True):
    """Sign new tokens with a new key; tokens signed with the old one stay valid until they expire or are revoked."""


@event("identity", 1, subject_field="user_id")
class UserRegistered(Event, frozen=True, kw_only=True):
    """A user was registered."""

    user_id: Id
    username: str
    email: str
    role: Role


@event("identity", 1, subject_field="user_id")
class UserRoleChanged(Event, frozen=True, kw_only=True):
    """The role of a user was changed."""

    user_id: Id
    old_role: Role
    new_role: Role


@event("identity", 1, subject_field="user_id")
class UserEmailChanged(Event, frozen=True, kw_only=True):
    """The e-mail address of a user was changed."""

    user_id: Id
    email: str


@event("identity", 1, subject_field="user_id")
class UserDeactivated(Event, frozen=True, kw_only=True):
    """A user was deactivated."""

    user_id: Id


@event("identity", 1, subject_field="user_id")
class UserReactivated(Event, frozen=True, kw_only=True):
    """A deactivated user was activated again."""

    user_id: Id


@event("identity", 1, subject_field="user_id")
class PasswordChanged(Event, frozen=True, kw_only=True):
    """The password of a user was set by the actor."""

    user_id: Id


@event("identity", 1, subject_field="user_id")
class LoginLocked(Event, frozen=True, kw_only=True):
    """After ``failures`` wrong passwords in a row, logins as the user are refused until ``locked_until``.

    ``known_device`` says that only one device is locked out, which has logged in as the user before.
    """

    user_id: Id
    failures: int
    locked_until: datetime
    known_device: bool


@event("identity", 1, subject_field="user_id")
class PasswordRehashed(Event, frozen=True, kw_only=True):
    """The unchanged password of a user was hashed again at a login, with the parameters of the settings."""

    user_id: Id


@event("identity", 1, subject_field="user_id")
class AdminRecovered(Event, frozen=True, kw_only=True):
    """The operator made a user an active admin with a new password."""

    user_id: Id
    username: str


@event("identity", 1, subject_field="token_id")
class TokenIssued(Event, frozen=True, kw_only=True):
    """A token was issued; ``kind`` is session or machine."""

    token_id: Id
    user_id: Id
    kind: str
    expires_at: datetime
    scope: str | None = None


@event("identity", 1, subject_field="token_id")
class TokenRevoked(Event, frozen=True, kw_only=True):
    """A token was revoked before it expired."""

    token_id: Id
    user_id: Id
    reason: str


@event("identity", 1, subject_field="kid")
class KeyPublished(Event, frozen=True, kw_only=True):
    """The public key (base64url) of a signing key: tokens signed with it are tokens of the company."""

    kid: Id
    public_key: str


@event("identity", 1, subject_field="kid")
class KeyRotated(Event, frozen=True, kw_only=True):
    """New tokens are signed with another key from now on."""

    kid: Id


@event("identity", 1, subject_field="key")
class SettingChanged(Event, frozen=True, kw_only=True):
    """A setting of the home was changed."""

    key: str
    value: str | int | bool
