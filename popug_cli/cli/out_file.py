"""Files that an answer goes to instead of stdout."""

import os
from collections.abc import Iterable
from pathlib import Path

from popug_cli.kernel.errors import Conflict, InvalidInput
from popug_cli.kernel.home import OWNER_ONLY_FILE


def write_new_file(path: Path, lines: Iterable[str], *, force: bool) -> int:
    """Write a file whole or not at all, by rename; the number of lines comes back.

    Raises ``file_exists`` unless ``force``, and ``unwritable_file``.
    """
    _refuse_existing(path, force=force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY_FILE)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            written = sum(1 for line in lines if file.write(line))
            file.flush()
            os.fsync(file.fileno())
        _refuse_existing(path, force=force)
        temporary.replace(path)
        return written
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refuse_existing(path: Path, *, force: bool) -> None:
    if os.path.lexists(path) and not force:
        raise Conflict(
            "file_exists",
            f"{path} is there already.",
            hint="Give --force to replace it, or name another file.",
            details={"path": os.fspath(path)},
        )


def _unwritable(path: Path, error: OSError | ValueError) -> InvalidInput:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InvalidInput(
        "unwritable_file",
        f"{path} cannot be written: {reason}.",
        hint="Name a file in a directory that you may write to.",
    )
