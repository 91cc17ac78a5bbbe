"""What is longer than the screen is shown by the reader's pager."""

import os
import shutil
import subprocess
from typing import IO

LESS = "FRX"


def show(text: str, pager: str, out: IO[str]) -> None:
    """Write the text, through the pager where it does not fit on the screen."""
    if text.count("\n") < shutil.get_terminal_size().lines:
        out.write(text)
        return
    out.flush()
    environment = {"LESS": LESS, **os.environ}
    subprocess.run(pager, shell=True, input=text, text=True, env=environment, check=False)  # noqa: S602 - the user's own
