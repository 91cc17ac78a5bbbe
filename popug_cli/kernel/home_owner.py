"""Checks that only its owner opens a home, and that an account creates a home only in a directory of its own.

A file that another account, such as the superuser, creates in a home locks the owner out. See
``decisions/0046-only-the-owner-of-a-home-opens-it.md``.
"""

import os
import stat
import sys
from pathlib import Path

from popug_cli.kernel.errors import InvalidInput, Unavailable
from popug_cli.platform.accounts import (
    SUPERUSER,
    ForeignOwnerError,
    account_name,
    describe_account,
    require_own,
    require_own_place,
)


def check_owner(root: Path) -> None:
    """Raise ``foreign_owner`` if another account owns a home, or the directory in which it will be created."""
    try:
        require_own(Path(os.path.realpath(root)))
        if not root.exists():
            require_own_place(Path(os.path.realpath(root)))
    except ForeignOwnerError as error:
        raise _foreign_owner(root, error) from error


def check_place(root: Path) -> None:
    """Raise ``foreign_owner`` like ``check_owner``, and ``insecure_directory`` if other accounts can write to a home.

    An empty directory may be open to its group, because ``Home.make`` restricts it.
    """
    check_owner(root)
    try:
        mode = root.stat().st_mode
    except FileNotFoundError:
        return
    if mode & stat.S_IWOTH or (mode & stat.S_IWGRP and any(root.iterdir())):
        raise _insecure_directory(root, is_shared=bool(mode & stat.S_ISVTX))


def _foreign_owner(root: Path, error: ForeignOwnerError) -> Unavailable:
    owner, account = describe_account(error.owner), describe_account(os.geteuid())
    return Unavailable(
        "foreign_owner",
        f"{error.filename} belongs to {owner}, and this command runs as {account}; its files would belong to the"
        " wrong account.",
        hint=_run_as(root, error.owner) if _holds_company(root) else _choose_other(error),
        details={"path": str(error.filename), "owner": error.owner},
    )


def _run_as(root: Path, owner: int) -> str:
    """Return a hint with a command that runs popug as another account."""
    import shlex
    import shutil

    program = Path(sys.executable).with_name("popug")
    program_text = shlex.quote(str(program)) if program.is_file() else "popug"
    command = f"{program_text} doctor --home {shlex.quote(str(root))}"
    if os.geteuid() == SUPERUSER and not shutil.which("sudo"):
        command = f"setpriv --reuid {owner} --regid {root.stat().st_gid} --clear-groups {command}"
    else:
        command = f"sudo -u {account_name(owner) or shlex.quote(f'#{owner}')} {command}"
    return f"Run popug as that account, for example `{command}`, or use its server with --server."


def _choose_other(error: ForeignOwnerError) -> str:
    if os.geteuid() == SUPERUSER:
        return "Run popug as that account, or name a directory of your own with --home DIR."
    directory = Path(error.filename)
    is_usable = os.access(directory, os.W_OK) and not _is_open_to_all(directory)
    return f"Name one that does not exist yet, such as --home {directory / 'popug' if is_usable else '~/popug'}."


def _is_open_to_all(directory: Path) -> bool:
    """Return whether all accounts may rename each other's files in a directory: it is writable and not sticky."""
    return directory.stat().st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH


def _insecure_directory(root: Path, *, is_shared: bool) -> InvalidInput:
    import shlex

    hint = "Name one that does not exist yet, such as --home ~/popug."
    if not is_shared:
        hint += f" Or run `chmod 700 {shlex.quote(str(root))}` if only your own files are in it."
    return InvalidInput(
        "insecure_directory",
        f"Other accounts can write to {root}, so no company is created there.",
        hint=hint,
        details={"path": str(root)},
    )


def _holds_company(root: Path) -> bool:
    """Return whether a home has a database, or may have one because this account may not look into it."""
    try:
        return (root / "popug.db").exists()
    except PermissionError:
        return True
