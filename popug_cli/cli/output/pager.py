"""Show text that is longer than the screen in the user's pager."""

import os
import shutil
import signal
import subprocess
from typing import IO

LESS_OPTIONS = "FRX"
NOT_RUN_STATUSES = (126, 127)  # exit statuses of a shell that could not run a program


def show(text: str, pager: str, out: IO[str]) -> None:
    """Show the text with the command ``pager`` if it does not fit on the screen, else write it to ``out``.

    If the shell cannot run the pager, write the text to ``out``.
    """
    if text.count("\n") < shutil.get_terminal_size().lines:
        out.write(text)
        return
    out.flush()
    environment = {"LESS": LESS_OPTIONS, **os.environ}
    previous_handler = signal.signal(signal.SIGINT, lambda *_: None)  # while the pager runs, Ctrl-C is for the pager
    try:
        finished = subprocess.run(pager, shell=True, input=text, text=True, env=environment, check=False)  # noqa: S602 - the user's own
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    if finished.returncode in NOT_RUN_STATUSES:
        out.write(text)
