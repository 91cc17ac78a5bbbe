"""An interactive shell at a terminal, in which a user types command lines and presses Tab."""

import os
import pty
import shutil
import signal
import sys
import time
from pathlib import Path
from select import select

import pytest

LIMIT_SECONDS = 60
QUIET_SECONDS = 0.4
COMMANDS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}
LOAD = {
    "bash": 'PS1="> "; eval "$(popug --show-completion bash)"',
    "zsh": 'PS1="> "; autoload -Uz compinit; compinit -u -d {folder}/.dump; eval "$(popug --show-completion zsh)"',
    "fish": "function fish_prompt; echo '> '; end; popug --show-completion fish | source",
}
LOADED = "LOADED"  # the shell prints it; the line that is typed has quotes in it
# Completion asks the real program; each other call writes down its arguments, each ended by NUL.
RECORDING_PROGRAM = """#!/bin/sh
if [ -n "$_POPUG_COMPLETE" ] || [ "$1" = --show-completion ]; then exec "{python}" -m popug_cli "$@"; fi
for word in "$@"; do printf '%s\\0' "$word"; done > "{record}.new"
mv "{record}.new" "{record}"
"""


class ShellSession:
    """A shell whose ``popug`` writes down the arguments with which it is called."""

    def __init__(self, shell: str, root: Path) -> None:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        self.folder, self.record, self.shown = root / "work", root / "arguments", ""
        self.folder.mkdir(parents=True)
        program = root / "bin" / "popug"
        program.parent.mkdir()
        program.write_text(RECORDING_PROGRAM.format(python=sys.executable, record=self.record))
        program.chmod(0o755)
        environment = {
            "PATH": os.pathsep.join([str(program.parent), "/usr/bin", "/bin"]),
            "HOME": str(root),
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **{name: value for name, value in os.environ.items() if name.startswith(("POPUG_", "COVERAGE_"))},
        }
        self._child, self._terminal = pty.fork()
        if self._child == 0:
            os.chdir(self.folder)
            os.execvpe(COMMANDS[shell][0], COMMANDS[shell], environment)
        self._read()
        self.type(f"{LOAD[shell].format(folder=root)}; echo LOAD''ED\n", until=LOADED)

    def type(self, keys: str, until: str = "") -> str:
        """Type keys; return the output up to a text, and the rest of it until the shell is quiet."""
        os.write(self._terminal, keys.encode())
        shown = self._read(until)
        self.shown += shown
        return shown

    def called_with(self, line: str) -> list[str]:
        """Type a line, Tab and Enter; return the arguments with which ``popug`` was called."""
        self.record.unlink(missing_ok=True)
        self.type(line + "\t")
        self.type("\n")
        deadline = time.monotonic() + LIMIT_SECONDS
        while not self.record.exists():
            assert time.monotonic() < deadline, self.shown
            time.sleep(0.05)
        return self.record.read_text().split("\0")[:-1]

    def close(self) -> None:
        """End the shell."""
        os.kill(self._child, signal.SIGKILL)
        os.close(self._terminal)
        os.waitpid(self._child, 0)

    def _read(self, until: str = "") -> str:
        shown, deadline = "", time.monotonic() + LIMIT_SECONDS
        while True:
            wait_seconds = QUIET_SECONDS if shown and until in shown else max(0.0, deadline - time.monotonic())
            if not select([self._terminal], [], [], wait_seconds)[0]:
                return shown
            try:
                shown += os.read(self._terminal, 65536).decode(errors="replace")
            except OSError:
                return shown
