"""Find the hook files of a home, the problem of each that must not run, and the event types that each receives."""

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

ANY_EVENT = "any"
MAX_HOOKS = 100
WRITABLE_BY_OTHERS = 0o022


@dataclass(frozen=True, slots=True)
class HookFile:
    """A file in the hooks folder, named like an event. A file with a `problem` is not run.

    `is_off`: the file is not executable, which is how its owner switches it off. `types` has the event types that it
    receives: None means all, and an empty tuple that no event has its name.
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
    """Return the hooks of a home, by name; none if there is no hooks folder or it cannot be read.

    Skip directories, hidden files, editors' backup copies, and files that neither are executable nor name an event.
    """
    folder = home.hooks
    try:
        owner = home.root.stat().st_uid
        status = folder.lstat()
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    folder_problem = _folder_problem(folder, status, owner)
    names = [name for name in names if not name.startswith(".") and not name.endswith("~")]
    return [*_files(folder, names, owner, folder_problem)]


def event_types_by_name() -> dict[str, tuple[str, ...]]:
    """Return the event types of each event name: one per version of the event."""
    for module in iter_modules(messages.__path__):
        import_module(f"{messages.__name__}.{module.name}")
    types_by_name: dict[str, tuple[str, ...]] = {}
    for type_, event_class in EVENTS.items():
        types_by_name[event_class.NAME] = (*types_by_name.get(event_class.NAME, ()), type_)
    return types_by_name


def _files(folder: Path, names: list[str], owner: int, folder_problem: str) -> Iterator[HookFile]:
    types_by_name = event_types_by_name()
    for index, name in enumerate(names):
        path, event = folder / name, name.partition(".")[0]
        try:
            status = path.lstat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            continue
        changed_at = datetime.fromtimestamp(status.st_ctime, UTC)
        is_off = stat.S_ISREG(status.st_mode) and not status.st_mode & stat.S_IXUSR
        problem = folder_problem or _file_problem(path, status, owner) or _name_problem(event, types_by_name)
        if index >= MAX_HOOKS and not problem:
            problem = f"there are more than {MAX_HOOKS} hooks"
        types = None if event == ANY_EVENT else types_by_name.get(event, ())
        if types != () or not is_off:
            yield HookFile(path, event, types, changed_at, problem, is_off)


def _folder_problem(folder: Path, status: os.stat_result, owner: int) -> str:
    if owner != os.geteuid():
        return "the home belongs to another user, and only its owner runs hooks"
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} is not a directory"
    if status.st_uid != owner:
        return f"{folder} belongs to another user than the home"
    if status.st_mode & WRITABLE_BY_OTHERS:
        return f"other users may write to {folder}: chmod go-w {folder}"
    return ""


def _file_problem(path: Path, status: os.stat_result, owner: int) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file (nor may it be a link): copy the program here"
    if status.st_uid != owner:
        return "it belongs to another user than the home"
    if status.st_mode & WRITABLE_BY_OTHERS:
        return f"other users may write to it: chmod go-w {path}"
    if not status.st_mode & stat.S_IXUSR:
        return f"it is switched off: chmod u+x {path}"
    return ""


def _name_problem(event: str, types_by_name: dict[str, tuple[str, ...]]) -> str:
    if event == ANY_EVENT or event in types_by_name:
        return ""
    suggestions = get_close_matches(event.replace("-", "_").lower(), [*types_by_name, ANY_EVENT], n=1)
    return f"no event is called {event}" + (f" (did you mean {suggestions[0]}?)" if suggestions else "")
