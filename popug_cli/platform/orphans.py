"""Start children; on Linux also adopt, kill and reap the processes that they leave running.

A process that is a *child subreaper*, see PR_SET_CHILD_SUBREAPER(2const), becomes the parent of its descendants'
orphans; so does process 1 of a container. The orphans are found in ``/proc``, see proc_pid_stat(5). See
``decisions/0047-a-process-that-runs-hooks-adopts-their-orphans.md``.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
KILL_LIMIT_SECONDS = 2.0
KILL_POLL_SECONDS = 0.01
PROC = Path("/proc")
_started: set[int] = set()  # children whose end another thread waits for
_lock = Lock()


class Process(NamedTuple):
    """A process of this machine, as the kernel shows it."""

    pid: int
    is_dead: bool
    parent: int
    session: int


def start(arguments: list[Path], **options: Any) -> "subprocess.Popen[bytes]":
    """Start a child in a session of its own, and adopt from now on what it leaves running. Raise ``OSError``.

    The options are those of ``Popen``. After the end of the child, the caller calls ``end_orphans_of``.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with _lock:  # until its pid is recorded, ``reap`` must not take it for an orphan
        child = subprocess.Popen(arguments, start_new_session=True, **options)  # noqa: S603 - the caller checked it
        _started.add(child.pid)
    return child


def end_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent ends; a child calls it before it runs a program.

    It is on Linux only, and about the thread of the parent that has started the child: PR_SET_PDEATHSIG(2const).
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def end_orphans_of(child: "subprocess.Popen[bytes]", markers: Collection[bytes]) -> None:
    """Kill and reap what a child that has ended left running: descendants in its session, or with all `markers`.

    A marker is ``NAME=value`` in the environment. Processes that these start in the meantime are killed as well.
    Give up after ``KILL_LIMIT_SECONDS``.
    """
    with _lock:
        _started.discard(child.pid)
        _kill_left_running(child.pid, markers)


def reap() -> None:
    """Reap the orphans that have ended."""
    with _lock:
        _reap()


def _kill_left_running(session: int, markers: Collection[bytes]) -> None:
    """Kill and reap the descendants in a session, and those with all `markers`, until there are none."""
    deadline, ended = time.monotonic() + KILL_LIMIT_SECONDS, set[int]()
    while _has_children() and time.monotonic() < deadline:
        _reap()
        # The kernel hides the environment of a process that is ending, so its id is remembered.
        left = [
            process
            for process in _descendants()
            if process.session == session or process.pid in ended or _has_markers(process.pid, markers)
        ]
        if not left:
            break
        for process in left:
            ended.add(process.pid)
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process.pid, signal.SIGKILL)
        time.sleep(KILL_POLL_SECONDS)


def _reap() -> None:
    """Reap dead children in a session of their own that ``start`` did not start.

    Other children of this program are in its own session, and other code waits for them.
    """
    if not _has_children():
        return
    own_session = os.getsid(0)
    for process in _processes():
        is_dead_child = process.is_dead and process.parent == os.getpid()
        if is_dead_child and process.session != own_session and process.pid not in _started:
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def _has_children() -> bool:
    """Return whether this process has a child; False if the kernel does not show processes."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return sys.platform.startswith("linux")


def _descendants() -> list[Process]:
    """Return the descendants of this process."""
    children: dict[int, list[Process]] = {}
    for process in _processes():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    parents = [os.getpid()]
    while parents:
        own_children = children.pop(parents.pop(), [])
        found += own_children
        parents += (process.pid for process in own_children)
    return found


def _processes() -> Iterator[Process]:
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            state, parent, _, session, *_ = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            yield Process(int(folder.name), state == "Z", int(parent), int(session))


def _has_markers(pid: int, markers: Collection[bytes]) -> bool:
    try:
        variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return all(marker in variables for marker in markers)
