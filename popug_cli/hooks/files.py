"""Find the hook files of a home: which of them may run, and which events each receives."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from popug_cli import messages
from popug_cli.kernel.home import Home
from popug_cli.messages.base import EVENTS

ANY = "any"
MAX_HOOKS = 100
WRITABLE_BY_OTHERS = 0o022


@dataclass(frozen=True, slots=True)
class HookFile:
    """A file named like an event. A file with a `problem` is not run.

    `is_off`: the file is not executable, which is how its owner switches it off. `types` is None for all events.
    """

    path: Path
    event: str
    types: tuple[str, ...] | None
    changed_at: datetime
    problem: str = ""
    is_off: bool = False

    @property
    def name(self) -> str:
        """Return the file name."""
        return self.path.name


def find(home: Home) -> list[HookFile]:
    """Return the hooks of a home, by name.

    Skip directories, hidden files, editors' backup copies, and files that neither are executable nor name an event.
    """
    folder = home.hooks
    try:
        owner = home.root.stat().st_uid
        status = folder.lstat()
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    common = _unsafe_folder(folder, status, owner)
    names = [name for name in names if not name.startswith(".") and not name.endswith("~")]
    return [*_files(folder, names, owner, common)]


def events() -> dict[str, tuple[str, ...]]:
    """Return the event types of all versions, by event name."""
    for module in iter_modules(messages.__path__):
        import_module(f"{messages.__name__}.{module.name}")
    named: dict[str, tuple[str, ...]] = {}
    for type_, shape in EVENTS.items():
        named[shape.NAME] = (*named.get(shape.NAME, ()), type_)
    return named


def _files(folder: Path, names: list[str], owner: int, common: str) -> Iterator[HookFile]:
    known = events()
    for index, name in enumerate(names):
        path, event = folder / name, name.partition(".")[0]
        try:
            file = path.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(file.st_mode):
            continue
        changed_at = datetime.fromtimestamp(file.st_ctime, UTC)
        off = stat.S_ISREG(file.st_mode) and not file.st_mode & stat.S_IXUSR
        problem = common or _unsafe(path, file, owner) or _unknown(event, known)
        if index >= MAX_HOOKS and not problem:
            problem = f"there are more than {MAX_HOOKS} hooks"
        types = None if event == ANY else known.get(event, ())
        if types != () or not off:
            yield HookFile(path, event, types, changed_at, problem, off)


def _unsafe_folder(folder: Path, status: os.stat_result, owner: int) -> str:
    if owner != os.geteuid():
        return "the home belongs to another user, and only its owner runs hooks"
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is not a directory"
    if status.st_uid != owner:
        return f"{folder} belongs to another user than the home"
    if status.st_mode & WRITABLE_BY_OTHERS:
        return f"other users may write to {folder}: chmod go-w {folder}"
    return ""


def _unsafe(path: Path, file: os.stat_result, owner: int) -> str:
    if not stat.S_ISREG(file.st_mode):
        return "it is not a regular file (nor may it be a link): copy the program here"
    if file.st_uid != owner:
        return "it belongs to another user than the home"
    if file.st_mode & WRITABLE_BY_OTHERS:
        return f"other users may write to it: chmod go-w {path}"
    if not file.st_mode & stat.S_IXUSR:
        return f"it is switched off: chmod u+x {path}"
    return ""


def _unknown(event: str, known: dict[str, tuple[str, ...]]) -> str:
    if event == ANY or event in known:
        return ""
    meant = get_close_matches(event.replace("-", "_").lower(), [*known, ANY], n=1)
    return f"no event is called {event}" + (f" (did you mean {meant[0]}?)" if meant else "")
