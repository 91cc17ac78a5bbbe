"""What is longer than the screen is shown by the reader's pager."""

import os
import shutil
import signal
import subprocess
from typing import IO

LESS = "FRX"
CANNOT_RUN_CODES = (126, 127)  # what a shell ends with that could not run a program


def show(text: str, pager: str, out: IO[str]) -> None:
    """Write the text, through the pager where it does not fit on the screen."""
    if text.count("\n") < shutil.get_terminal_size().lines:
        out.write(text)
        return
    out.flush()
    environment = {"LESS": LESS, **os.environ}
    previous_handler = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the pager's while it shows something
    try:
        done = subprocess.run(pager, shell=True, input=text, text=True, env=environment, check=False)  # noqa: S602 - the user's own
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    if done.returncode in CANNOT_RUN_CODES:
        out.write(text)
