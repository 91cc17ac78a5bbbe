"""Accounts of the operating system: describe the owner of a file, and refuse to change another account's files.

A file that the superuser creates in the directory of another account locks that account out. A file that another
account can replace, or a link that it planted, misdirects what popug writes. So popug writes only what is its own.
See ``decisions/0046-only-the-owner-of-a-home-opens-it.md``.
"""

import errno
import os
from pathlib import Path

SUPERUSER = 0


class ForeignOwnerError(PermissionError):
    """A file, link or directory does not belong to this process's account, but to the user id ``owner``."""

    def __init__(self, path: Path, owner: int) -> None:
        reason = f"it belongs to {describe_account(owner)}, and this command runs as {describe_account(os.geteuid())}"
        super().__init__(errno.EPERM, reason, str(path))
        self.owner = owner


def describe_account(user_id: int) -> str:
    """Return the name and the id of an account, or only its id if it has no name."""
    name = account_name(user_id)
    return f"the account {name} (uid {user_id})" if name else f"the account with uid {user_id}"


def account_name(user_id: int) -> str | None:
    """Return the login name of an account, or None if the system has none."""
    import pwd

    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return None


def require_own(path: Path) -> None:
    """Raise ``ForeignOwnerError`` if a file, directory or link exists and belongs to another account."""
    try:
        owner = path.lstat().st_uid
    except (FileNotFoundError, NotADirectoryError):
        return
    if owner != os.geteuid():
        raise ForeignOwnerError(path, owner)


def require_own_place(path: Path) -> None:
    """Raise ``ForeignOwnerError`` if the superuser would create a path in the directory of another account.

    An account without privileges owns what it creates, and the system lets it create only where it may.
    """
    if os.geteuid() != SUPERUSER:
        return
    directory = next(parent for parent in path.absolute().parents if parent.exists())
    if (owner := directory.stat().st_uid) != SUPERUSER:
        raise ForeignOwnerError(directory, owner)
