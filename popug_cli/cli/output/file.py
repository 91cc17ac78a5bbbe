"""Write an answer to a file instead of stdout."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from popug_cli.kernel import leftovers
from popug_cli.kernel.disk_errors import unwritable
from popug_cli.kernel.errors import Conflict, InvalidInput
from popug_cli.platform.files import move_into_place, resolve_replaceable
from popug_cli.platform.temporary import remove_dead_files, temporary_file

STDOUT = Path("-")


def is_stdout(path: Path | None) -> bool:
    """Return whether an answer goes to stdout: ``path`` is None or ``-``."""
    return path is None or path == STDOUT


def write_new_file(
    path: Path, lines: Iterable[str], *, force: bool, warn: Callable[[str], None] = lambda sentence: None
) -> int:
    """Write a file that only its owner can read, atomically by rename; return the number of ``lines`` that have text.

    A device or a pipe is written to, never replaced. A link is kept, and the file to which it leads is replaced. Raise
    ``file_exists`` for any existing path unless ``force``, ``foreign_owner`` for a file of another account,
    ``unwritable_file`` for a directory or a path that cannot be written, ``disk_full`` and ``io_error``.
    """
    _refuse_directory(path)
    _refuse_existing(path, force=force)
    if path.exists() and not path.is_file():
        return _write_to_device(path, lines)
    try:
        target = resolve_replaceable(path)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error
    for leftover in remove_dead_files(target.parent):
        warn(leftovers.removed(leftover))
    try:
        with temporary_file(target) as (descriptor, temporary):
            line_count = _write_to_disk(descriptor, lines)
            _refuse_existing(path, force=force)
            move_into_place(temporary, target)
    except OSError as error:
        raise unwritable(path, error) from error
    return line_count


def _write_to_device(device: Path, lines: Iterable[str]) -> int:
    try:
        with device.open("w", encoding="utf-8", newline="\n") as file:
            return sum(1 for line in lines if file.write(line))
    except OSError as error:
        raise unwritable(device, error) from error


def _write_to_disk(descriptor: int, lines: Iterable[str]) -> int:
    with open(descriptor, "w", encoding="utf-8", newline="\n", closefd=False) as file:
        line_count = sum(1 for line in lines if file.write(line))
        file.flush()
        os.fsync(descriptor)
    return line_count


def _refuse_directory(path: Path) -> None:
    """Raise ``unwritable_file`` for a directory; an empty name is the current directory."""
    if path.is_dir():
        raise InvalidInput(
            "unwritable_file",
            f"{path} is a directory." if path.name else "--out does not name a file.",
            hint="Name a file, or give - for stdout.",
            details={"path": str(path)},
        )


def _refuse_existing(path: Path, *, force: bool) -> None:
    """Raise ``file_exists`` for an existing path or a dangling link, unless ``force``."""
    if os.path.lexists(path) and not force:
        raise Conflict(
            "file_exists",
            f"{path} already exists.",
            hint="Give --force to replace it, or name another file.",
            details={"path": str(path)},
        )
