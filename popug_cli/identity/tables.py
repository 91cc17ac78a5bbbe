"""Identity's tables."""

from sqlalchemy import CheckConstraint, Index
from sqlmodel import Field, SQLModel


class UserRow(SQLModel, table=True):
    """A user. Rows are never deleted, so a username is never reused. Without a hash the user has no password."""

    __tablename__ = "identity_users"
    __table_args__ = (
        CheckConstraint("role IN ('admin', 'manager', 'accountant', 'worker')", name="known_role"),
        CheckConstraint("active IN (0, 1)", name="active_or_not"),
        CheckConstraint("username = lower(username)", name="lower_cased"),
        {"sqlite_strict": True},
    )

    user_id: str = Field(primary_key=True)
    username: str = Field(unique=True)
    email: str
    email_key: str = Field(unique=True)
    role: str
    active: int
    password_hash: str | None
    registered_at: str


class TokenRow(SQLModel, table=True):
    """An issued token. The token itself is not stored; `token_id` is its claim ``jti``."""

    __tablename__ = "identity_tokens"
    __table_args__ = (
        CheckConstraint("kind IN ('session', 'machine')", name="known_kind"),
        Index("identity_tokens_user", "user_id"),
        {"sqlite_strict": True},
    )

    token_id: str = Field(primary_key=True)
    user_id: str = Field(foreign_key="identity_users.user_id")
    kind: str
    scope: str | None
    issued_at: str
    expires_at: str
    revoked_at: str | None
    last_used_at: str | None


class KeyRow(SQLModel, table=True):
    """The public key of a home (base64url), under its id; homes that share a database verify each other's tokens."""

    __tablename__ = "identity_keys"
    __table_args__ = ({"sqlite_strict": True},)

    kid: str = Field(primary_key=True)
    public_key: str
    added_at: str


class ThrottleRow(SQLModel, table=True):
    """Consecutive failed logins with a username, whether or not a user has it.

    Those from a device that has logged in before are counted apart: `username` is then the name, ``#`` and its id.
    """

    __tablename__ = "identity_throttle"
    __table_args__ = (CheckConstraint("failures > 0", name="failed_once"), {"sqlite_strict": True})

    username: str = Field(primary_key=True)
    failures: int
    locked_until: str
