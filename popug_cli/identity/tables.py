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
    """A public key (base64url) under its id: that of a home with this database or, in a service, a copy."""

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


class RevokedTokenRow(SQLModel, table=True):
    """Part of a service's deny list: a token that identity revoked, kept until it has expired."""

    __tablename__ = "identity_revoked_tokens"
    __table_args__ = (Index("identity_revoked_tokens_expiry", "expires_at"), {"sqlite_strict": True})

    token_id: str = Field(primary_key=True)
    expires_at: str


class TokenOwnerRow(SQLModel, table=True):
    """Part of a service's deny list: a user's tokens of one kind are void if they were issued before ``void_below``.

    That is the position in identity's log of the last event that voids older tokens, 0 if there was none. The row is
    kept until ``expires_at``, when all these tokens have expired.
    """

    __tablename__ = "identity_token_owners"
    __table_args__ = (
        CheckConstraint("kind IN ('session', 'machine')", name="known_kind"),
        CheckConstraint("void_below >= 0", name="a_position"),
        Index("identity_token_owners_expiry", "expires_at"),
        {"sqlite_strict": True},
    )

    user_id: str = Field(primary_key=True)
    kind: str = Field(primary_key=True)
    void_below: int
    expires_at: str


class WatermarkRow(SQLModel, table=True):
    """The single row of a service that receives identity's events: the highest watermark that it has consumed.

    All events of identity up to ``position`` are in the copies of keys and in the deny list, unless they are set aside.
    ``stamped_at`` is the broker's time of the watermark.
    """

    __tablename__ = "identity_watermark"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"), {"sqlite_strict": True})

    id: int = Field(primary_key=True)
    position: int
    stamped_at: str
