"""Replace one directory by another, so that a crash leaves the old or the new one whole, never none.

Two renames leave a moment in which no directory has the name: a command that opens the home then, or a crash, finds no
company. Linux exchanges two names in one step (``renameat2``). ``tests/integration/app/test_backup.py`` tests both
ways, with a rename that fails. See ``decisions/0013-a-backup-is-a-verified-zip-a-restore-swaps-two-directories.md``.
"""

import ctypes
import os
import sys
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2


def replace_directory(new: Path, home: Path, old_home: Path) -> bool:
    """Move ``new`` to ``home``, and an existing home to ``old_home``; return whether there was one. Raise ``OSError``.

    An empty directory does not count as a home and is replaced. If the system can exchange two names, a home exists at
    every instant. Otherwise a crash between the two renames leaves both directories whole, the old one at ``old_home``.
    """
    if not home.exists() or not any(home.iterdir()):
        new.rename(home)
        return False
    if not exchange(new, home):
        home.rename(old_home)
        try:
            new.rename(home)
        except OSError:
            old_home.rename(home)
            raise
        return True
    try:
        new.rename(old_home)
    except OSError:
        exchange(new, home)
        raise
    return True


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names in one step. Return False, with nothing done, if the system or file system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return bool(rename(AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second), RENAME_EXCHANGE) == 0)
