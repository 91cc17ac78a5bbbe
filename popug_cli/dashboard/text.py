"""Text for the views: hidden characters are escaped, markup is not interpreted, lines are cut to the width."""

from collections.abc import Iterable

from rich.cells import cell_len
from rich.text import Text

from popug_cli.kernel.text import escape_hidden


def plain(text: str, *, style: str = "", right: bool = False) -> Text:
    """Return one line of text with hidden characters escaped; nothing in it is markup."""
    return Text(
        escape_hidden(text), style=style, justify="right" if right else "left", no_wrap=True, overflow="ellipsis"
    )


def heading(text: str) -> Text:
    """Return a heading, which wraps between words."""
    return Text(escape_hidden(text), style="bold", overflow="fold")


def lines(texts: Iterable[str | Text]) -> Text:
    """Join texts as lines."""
    return Text("\n").join(text if isinstance(text, Text) else plain(text) for text in texts)


def justify(left: str, right: str, width: int) -> list[str]:
    """Put two texts at the ends of a line, or on two lines if there is no room for both."""
    gap = width - cell_len(left) - cell_len(right)
    return [f"{left}{' ' * gap}{right}"] if gap >= 2 else [left, right]


def wrapped(text: str) -> Text:
    """Return a sentence that wraps over as many lines as it needs."""
    return Text(escape_hidden(text), overflow="fold")
