"""The temporary homes of backups and restores: create them; after a kill, find them and finish or remove them.

A backup verifies a copy of the company in a temporary home. A restore prepares the new company in one, and then swaps
it with the home. ``TEMP_HOME_MARKER`` marks a temporary home. Before the swap of a restore, the marker receives a plan.
So the next process can finish a swap that a kill interrupted. See
``decisions/0045-temporary-files-are-locked-by-their-process.md``.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from popug_cli.kernel import leftovers
from popug_cli.kernel.disk_errors import unwritable
from popug_cli.kernel.home import Home
from popug_cli.platform import files, temporary
from popug_cli.storage import volume_swap
from popug_cli.storage.mounts import TEMP_HOME_MARKER


class SwapPlan(NamedTuple):
    """The names of a swap, all in one directory: the temporary home, and the path at which the old home is kept."""

    fresh: str
    old_home: str


@contextmanager
def temporary_home(next_to: Path, noted_in: Path | None = None) -> Iterator[Home]:
    """Yield an empty home on the same file system, accessible to its owner only.

    It is removed at the end, unless it was moved away. A directory that has replaced it has no ``TEMP_HOME_MARKER`` and
    is kept. ``noted_in`` is a directory that receives a link to it, so that ``clear`` finds it there after a kill.
    Raise ``disk_full``, ``io_error``, ``foreign_owner`` or ``unwritable_file``.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary.temporary_directory(next_to))
            stack.callback(_remove_unless_in_swap, folder)
            (folder / TEMP_HOME_MARKER).touch()
            if noted_in is not None:
                stack.enter_context(_note(folder, noted_in / next_to.name))
        except OSError as error:
            raise unwritable(next_to, error) from error
        yield Home(folder)


@contextmanager
def _note(folder: Path, next_to: Path) -> Iterator[None]:
    note = temporary.temporary_path(next_to)
    try:
        note.symlink_to(folder)
        yield
    finally:
        note.unlink(missing_ok=True)


def write_swap_plan(fresh: Home, old_home: Path) -> None:
    """Store the ``SwapPlan`` in the marker of the temporary home ``fresh``, and synchronize it."""
    names = SwapPlan(fresh.root.name, old_home.name)
    files.replace_file(fresh.root / TEMP_HOME_MARKER, b"\0".join(map(os.fsencode, names)))


def finish_swap(home: Path) -> Path | None:
    """Move the old home from the temporary path to its own, remove the marker, and return the old home's path, or None.

    Raise ``OSError``.
    """
    plan = _read_plan(home)
    old_home = None
    if plan is not None:
        temporary_path, kept = home.with_name(plan.fresh), home.with_name(plan.old_home)
        if temporary_path.is_dir() and not kept.exists():
            temporary_path.rename(kept)
        old_home = kept if kept.exists() else None
    (home / TEMP_HOME_MARKER).unlink(missing_ok=True)
    files.sync(home.parent)
    return old_home


def clear(home: Home) -> Iterator[str]:
    """Finish or remove what killed processes left in and next to a home; yield a sentence for each.

    Processes that still run are left alone. What cannot be removed stays, without a sentence.
    """
    root = Path(os.path.realpath(home.root))
    with suppress(OSError):
        yield from _finish_restore(root)
        yield from _finish_restore_in_volume(Home(root))
    for directory in (root, home.keys, home.backups):
        yield from map(leftovers.removed, temporary.remove_dead_files(directory))
    yield from clear_homes(root.parent, root)
    yield from clear_homes(home.backups)


def clear_homes(directory: Path, of: Path | None = None) -> Iterator[str]:
    """Remove the temporary homes of dead processes in a directory or linked from it; yield a sentence for each."""
    for path in temporary.dead_paths(directory, of):
        if path.is_symlink():
            yield from _clear_noted(path)
        elif path.is_dir() and _remove_unless_in_swap(path):
            yield leftovers.removed(path)


def _clear_noted(note: Path) -> Iterator[str]:
    try:
        folder = note.parent / note.readlink()
    except OSError:  # another process has removed it
        return
    if folder.is_dir() and not folder.is_symlink() and temporary.is_temporary(folder):
        with temporary.locked_if_dead(folder) as is_dead:
            if not is_dead:
                return
            if _remove_unless_in_swap(folder):
                yield leftovers.removed(folder)
    with suppress(OSError):
        note.unlink()


def _finish_restore(root: Path) -> Iterator[str]:
    """Finish the swap of a restore that was killed after its first rename."""
    candidates = [root] if root.exists() else [*filter(_is_in_swap, temporary.paths(root.parent, root))]
    for fresh in candidates:
        with temporary.locked_if_dead(fresh) as is_dead:
            if not is_dead or _read_plan(fresh) is None:
                continue
            if fresh != root:
                fresh.rename(root)
            old_home = finish_swap(root)
        kept_note = f" The old home is kept in {old_home}." if old_home else ""
        yield f"A restore of {root} was killed before its end; it is finished now.{kept_note}"
        return


def _finish_restore_in_volume(home: Home) -> Iterator[str]:
    """Finish the swap of a restore inside a home that cannot be renamed; remove what it left before the swap."""
    for fresh in volume_swap.unfinished(home):
        with temporary.locked_if_dead(fresh) as is_dead:
            if not is_dead:
                continue
            plan = _read_plan(fresh)
            if plan is None or not _is_in_swap(fresh):
                if _remove_unless_in_swap(fresh):
                    yield leftovers.removed(fresh)
                continue
            kept = volume_swap.swap(fresh, home.root, fresh.with_name(plan.old_home))
        kept_note = f" The old content is kept in {kept}." if kept else ""
        yield f"A restore of {home.root} was killed before its end; it is finished now.{kept_note}"


def _is_in_swap(fresh: Path) -> bool:
    """Return whether a restore has moved the old home away and not yet put the temporary home in its place."""
    plan = _read_plan(fresh)
    return plan is not None and fresh.with_name(plan.old_home).exists()


def _read_plan(home: Path) -> SwapPlan | None:
    try:
        names = (home / TEMP_HOME_MARKER).read_bytes().split(b"\0")
    except OSError:
        return None
    return SwapPlan(*map(os.fsdecode, names)) if len(names) == len(SwapPlan._fields) else None


def _remove_unless_in_swap(folder: Path) -> bool:
    """Remove a temporary home; return whether it is gone. A directory with content and no marker is not one."""
    if _is_in_swap(folder):
        return False
    if (folder / TEMP_HOME_MARKER).exists():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        with suppress(OSError):
            folder.rmdir()
    return not folder.exists()
