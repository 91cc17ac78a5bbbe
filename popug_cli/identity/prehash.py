"""Work on passwords that is done before the transaction that needs it, so that nobody waits for it at the write lock.

Each function looks at a snapshot and gives back the work that is left to do when the snapshot is closed.
"""

from collections.abc import Callable
from functools import partial

from popug_cli.bus.context import Context, PasswordWork
from popug_cli.identity import login_throttle, passwords, rules, users
from popug_cli.messages.identity import AddUser, LogIn, RecoverAdmin, SetPassword

PreparedWork = Callable[[], PasswordWork]


def log_in(message: LogIn, context: Context) -> PreparedWork:
    """Compare the password with what is kept now; the command compares again what it finds then."""
    username = rules.lower_username(message.username)
    login_throttle.check_not_locked(context, username)
    user = users.find(context, username)
    password_hash = users.password_hash_of(context, user) if user and user.active else None
    return partial(passwords.compare_ahead, message.password, password_hash, context)


def add_user(message: AddUser, context: Context) -> PreparedWork:
    """Hash the password of somebody who would be taken, as far as can be said without looking at others."""
    rules.check_new_user(message.username, message.email, message.role, message.password)
    return partial(passwords.hash_ahead, message.password, context)


def set_password(message: SetPassword, context: Context) -> PreparedWork:
    """Hash the new password."""
    return partial(passwords.hash_ahead, message.password, context)


def recover_admin(message: RecoverAdmin, context: Context) -> PreparedWork:
    """Hash the new password."""
    return partial(passwords.hash_ahead, message.password, context)
