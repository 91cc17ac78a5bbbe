"""Lines of text for the views: safe whoever wrote them, cut to what there is room for."""

from collections.abc import Iterable

from rich.text import Text

from popug_cli.kernel.text import escape_hidden


def plain(text: str, *, style: str = "", right: bool = False) -> Text:
    """Text as it stands: hidden characters spelled out, nothing in it read as markup."""
    return Text(
        escape_hidden(text), style=style, justify="right" if right else "left", no_wrap=True, overflow="ellipsis"
    )


def heading(text: str) -> Text:
    """A line that names what follows."""
    return plain(text, style="bold")


def lines(texts: Iterable[str | Text]) -> Text:
    """Some lines under each other."""
    return Text("\n").join(text if isinstance(text, Text) else plain(text) for text in texts)


def justify(left: str, right: str, width: int) -> str:
    """Two texts at the ends of a line, the left one cut where there is no room for both."""
    room = max(0, width - len(right) - 2)
    return f"{left[:room]:<{room}}  {right}"


def wrapped(text: str) -> Text:
    """A sentence that takes as many lines as it needs."""
    return Text(escape_hidden(text), overflow="fold")
