"""Hash and compare passwords before the transaction, because hashing is slow and a transaction holds the write lock.

Each function is named like the handler in ``commands`` that it prepares; ``app/handlers.py`` finds it by that name. It
reads a snapshot, and returns the function that does the slow work once the snapshot is closed.
"""

from collections.abc import Callable
from functools import partial

from popug_cli.bus.context import Context, PasswordWork
from popug_cli.identity import login_throttle, passwords, rules, users
from popug_cli.messages.identity import AddUser, LogIn, RecoverAdmin, SetPassword

PreparedWork = Callable[[], PasswordWork]


def log_in(message: LogIn, context: Context) -> PreparedWork:
    """Compare the password with the stored hash. If the hash changes before the command, that compares again.

    Raise ``too_many_attempts`` during a lockout.
    """
    attempt = login_throttle.attempt_of(message, context)
    login_throttle.check_not_locked(context, attempt)
    user = users.find(context, attempt.username)
    password_hash = users.password_hash_of(context, user) if user and user.active else None
    return partial(passwords.compare_ahead, message.password, password_hash, context)


def add_user(message: AddUser, context: Context) -> PreparedWork:
    """Hash the password of a new user. Raise the errors that can be found without reading other users."""
    rules.check_new_user(message.username, message.email, message.role, message.password)
    return partial(passwords.hash_ahead, message.password, context)


def set_password(message: SetPassword, context: Context) -> PreparedWork:
    """Hash the new password."""
    return partial(passwords.hash_ahead, message.password, context)


def recover_admin(message: RecoverAdmin, context: Context) -> PreparedWork:
    """Hash the new password."""
    return partial(passwords.hash_ahead, message.password, context)
