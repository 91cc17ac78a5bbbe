"""The stored users: find, register, update."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from popug_cli.bus.context import Context
from popug_cli.identity.rules import email_key, lower_username, password_digest
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import Conflict, NotFound
from popug_cli.messages.identity import NewPerson, User, UserRegistered

_COLUMNS = ("user_id", "username", "email", "role", "active")
_SELECT_USERS = f"SELECT {', '.join(_COLUMNS)} FROM identity_users"


def by_username(context: Context, limit: int, offset: int) -> list[User]:
    """Return at most `limit` users after the first `offset`, by username."""
    statement = f"{_SELECT_USERS} ORDER BY username LIMIT :limit OFFSET :offset"
    rows = context.connection.records(statement, limit=limit, offset=offset)
    return [_user(row) for row in rows]


def find(context: Context, username: str) -> User | None:
    """Return the user with that name (case-insensitive), or None."""
    if not username.isascii():
        return None
    row = context.connection.record(f"{_SELECT_USERS} WHERE username = :username", username=lower_username(username))
    return None if row is None else _user(row)


def get(context: Context, username: str) -> User:
    """Return the user with that name (case-insensitive); raise ``user_not_found``."""
    user = find(context, username)
    if user is None:
        raise NotFound(
            "user_not_found",
            f"There is no user called {username!r}.",
            hint="Run `popug user list` to see all users.",
            details={"username": username},
        )
    return user


def has_users(context: Context) -> bool:
    """Return whether any user was ever registered."""
    return bool(context.connection.scalar("SELECT EXISTS (SELECT 1 FROM identity_users)"))


def is_last_admin(context: Context, user: User) -> bool:
    """Return whether there is no active admin other than `user`."""
    statement = (
        "SELECT EXISTS (SELECT 1 FROM identity_users WHERE role = 'admin' AND active = 1 AND user_id <> :user_id)"
    )
    return not context.connection.scalar(statement, user_id=user.user_id)


def password_hash_of(context: Context, user: User) -> str | None:
    """Return a user's password hash, or None if the user has no password."""
    statement = "SELECT password_hash FROM identity_users WHERE user_id = :user_id"
    password_hash: str | None = context.connection.scalar(statement, user_id=user.user_id)
    return password_hash


def register(context: Context, users: Sequence[User], password_hash: str | None = None) -> None:
    """Insert users and publish their registration; the caller has checked that names and addresses are free."""
    context.connection.insert_many(
        "INSERT INTO identity_users (user_id, username, email, email_key, role, active, password_hash, registered_at)"
        " VALUES (?, ?, ?, ?, ?, 1, ?, ?)",
        [_values(user, password_hash, to_rfc3339(context.now)) for user in users],
    )
    for user in users:
        context.events.publish(
            UserRegistered(user_id=user.user_id, username=user.username, email=user.email, role=user.role),
            password_digest=password_digest(password_hash),
        )


def update(context: Context, user: User) -> None:
    """Store the fields of a user that may change: address, role, activity."""
    context.connection.execute(
        "UPDATE identity_users SET email = :email, email_key = :email_key, role = :role, active = :active"
        " WHERE user_id = :user_id",
        email=user.email,
        email_key=email_key(user.email),
        role=user.role.value,
        active=int(user.active),
        user_id=user.user_id,
    )


def set_password_hash(context: Context, user: User, password_hash: str) -> None:
    """Replace a user's password hash."""
    context.connection.execute(
        "UPDATE identity_users SET password_hash = :password_hash WHERE user_id = :user_id",
        password_hash=password_hash,
        user_id=user.user_id,
    )


def check_username_free(username: str, taken: Iterable[User]) -> None:
    """Raise ``username_taken`` if one of the users in `taken` has the name."""
    if any(user.username == username for user in taken):
        raise Conflict(
            "username_taken",
            f"The username {username} is taken; usernames are never reused.",
            hint="Choose another.",
            details={"username": username},
        )


def check_email_free(email: str, taken: Iterable[User]) -> None:
    """Raise ``email_taken`` if one of the users in `taken` has the address."""
    for user in taken:
        if email_key(user.email) == email_key(email):
            raise Conflict(
                "email_taken",
                f"The address {email} belongs to {user.username}.",
                hint="Give another address.",
                details={"email": email, "username": user.username},
            )


def with_name_or_email(context: Context, username: str, email: str) -> list[User]:
    """Return the users that have the username or the address."""
    rows = context.connection.records(
        f"{_SELECT_USERS} WHERE username = :username OR email_key = :email_key",
        username=username,
        email_key=email_key(email),
    )
    return [_user(row) for row in rows]


def existing_for(context: Context, new_people: Sequence[NewPerson]) -> tuple[dict[str, User], dict[str, User]]:
    """Return the users that already have a new person's username, and those that have a new person's address.

    The first dict is keyed by username, the second by ``email_key``.
    """
    names = [lower_username(person.username) for person in new_people if person.username.isascii()]
    keys = [email_key(person.email) for person in new_people if person.email.isascii()]
    return (
        {user.username: user for user in _select_where(context, "username", names)},
        {email_key(user.email): user for user in _select_where(context, "email_key", keys)},
    )


def _select_where(context: Context, column: str, values: Sequence[str]) -> Iterator[User]:
    rows = context.connection.select_in(f"{_SELECT_USERS} WHERE {column} IN", values)
    return (_user(dict(zip(_COLUMNS, row, strict=True))) for row in rows)


def _user(row: dict[str, Any]) -> User:
    return msgspec.convert(row, User, strict=False)


def _values(user: User, password_hash: str | None, registered_at: str) -> tuple[str | None, ...]:
    key = email_key(user.email)
    return (user.user_id, user.username, user.email, key, user.role.value, password_hash, registered_at)
