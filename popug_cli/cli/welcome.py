"""What ``popug`` alone says: to somebody new how to begin, to somebody logged in what today holds."""

from popug_cli.cli.face import Face
from popug_cli.cli.help import blocks


def welcome(face: Face) -> None:
    """Say what to do first."""
    face.printer.blocks(blocks(""))
