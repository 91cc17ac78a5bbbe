"""The only printer. It escapes hidden characters in all text except file formats, and never reads text as markup."""

import os
import sys
from collections.abc import Iterable, Sequence
from io import TextIOWrapper
from typing import IO, Any

import msgspec

from popug_cli.cli.output.blocks import Block, Heading, Hint, Panel, Table
from popug_cli.kernel.errors import PopugError
from popug_cli.kernel.text import escape_hidden, escape_hidden_json, mask_passwords

DIM, BOLD, NORMAL = "\x1b[2m", "\x1b[1m", "\x1b[0m"
MIN_SHRUNK_WIDTH, MIN_COMFORTABLE_WIDTH = 12, 26
COLUMN_GAP_WIDTH = 3
ASCII_BOX = "    \n" * 2 + " -- \n" + "    \n" * 5
ASCII_ELLIPSIS = "..."
ASCII_LOCALES = ("C", "POSIX")
UNBOUNDED_WIDTH = 1_000
MIN_TERM_WIDTH = 14
MAX_PANEL_WIDTH = 100


class Printer(msgspec.Struct):
    """Print answers to stdout and all else to stderr; ``plain`` output has no boxes, colours or charts.

    ``target`` is the stream for which the text is laid out, if it is not ``out``.
    """

    out: IO[str] = msgspec.field(default_factory=lambda: sys.stdout)
    err: IO[str] = msgspec.field(default_factory=lambda: sys.stderr)
    plain: bool = msgspec.field(default_factory=lambda: bool(os.environ.get("POPUG_PLAIN")))
    target: IO[str] | None = None

    @property
    def only_ascii(self) -> bool:
        """Whether charts and boxes may use only ASCII."""
        return self.plain or not (_supports_unicode(self.target or self.out) and _locale_supports_unicode())

    def document(self, answer: Any) -> None:
        """Print one JSON document."""
        self.out.write(to_json(answer, only_ascii=not _supports_unicode(self.out)) + "\n")

    def line(self, text: str) -> None:
        """Print one unstyled line, such as a token."""
        self.out.write(escape_hidden(text) + "\n")

    def write(self, text: str) -> None:
        """Write text in a file format as it is; the caller has escaped it."""
        self.out.write(text)

    def blocks(self, blocks: Iterable[Block]) -> None:
        """Print sentences and tables for people."""
        for block in blocks:
            if isinstance(block, str):
                self.out.write(_wrap(escape_hidden(block, keep="\n"), self.target or self.out) + "\n")
            elif self.plain:
                self._write_plain(block)
            elif isinstance(block, Hint | Heading):
                self._write_styled_line(block)
            else:
                self._write_rich(block)

    def pages(self, blocks: Iterable[Block]) -> None:
        """Print blocks; use ``$PAGER`` if they are longer than the screen."""
        pager = os.environ.get("PAGER")
        if not pager or not (sys.stdin.isatty() and self.out.isatty()):
            self.blocks(blocks)
            return
        from io import StringIO

        from popug_cli.cli.output.pager import show

        text = StringIO()
        Printer(out=text, err=self.err, plain=self.plain, target=self.out).blocks(blocks)
        show(text.getvalue(), pager, self.out)

    def warn(self, sentence: str) -> None:
        """Print a warning to stderr."""
        self._write_aside(_wrap(f"warning: {escape_hidden(mask_passwords(sentence))}", self.err) + "\n")

    def traceback(self, report: str) -> None:
        """Print the lines of a traceback to stderr."""
        self.err.write(escape_hidden(mask_passwords(report), keep="\n"))

    def remark(self, sentence: str) -> None:
        """Print a remark to stderr."""
        self._write_aside(_wrap(escape_hidden(sentence), self.err) + "\n")

    def _write_aside(self, text: str) -> None:
        """Write to stderr. Ignore errors such as a full disk: the answer matters more. Raise ``BrokenPipeError``."""
        try:
            self.err.write(text)
            self.err.flush()
        except BrokenPipeError:
            raise
        except OSError:
            self.err = open(os.devnull, "w")  # noqa: PTH123, SIM115 - it stays open until the process ends

    def ask(self, question: str) -> None:
        """Print a question; the user types the answer on the same line."""
        self.err.write(escape_hidden(question) + " ")
        self.err.flush()

    def error(self, error: PopugError, *, as_json: bool) -> None:
        """Print an error and its hint; a message that quotes the command line shows no password of a database."""
        message, hint = mask_passwords(error.message), mask_passwords(error.hint)
        if as_json:
            details = {
                key: mask_passwords(value) if isinstance(value, str) else value for key, value in error.details.items()
            }
            body = {"code": error.code, "message": message, "hint": hint, "details": details}
            self.err.write(to_json({"error": body}, only_ascii=not _supports_unicode(self.err)) + "\n")
            return
        self.err.write(_wrap(f"error: {escape_hidden(message)}", self.err) + "\n")
        if hint:
            self.err.write(_wrap(f"  {escape_hidden(hint)}", self.err) + "\n")

    def _write_plain(self, block: Table | Hint | Heading | Panel) -> None:
        from popug_cli.cli.output.plain_text import lines

        for line in lines(block):
            self.out.write(escape_hidden(line) + "\n")

    def _write_styled_line(self, block: Hint | Heading) -> None:
        """Print a dim or bold line if the terminal supports it; without Rich, which loads slower than most commands."""
        target = self.target or self.out
        text = _wrap(escape_hidden(block.text), target)
        if shows_styles(target):
            style = BOLD if isinstance(block, Heading) else DIM
            text = "\n".join(f"{style}{line}{NORMAL}" for line in text.split("\n"))
        self.out.write(text + "\n")

    def _write_rich(self, block: Table | Panel) -> None:
        from rich.text import Text

        console = self._console()
        if isinstance(block, Panel):
            console.print(_rich_panel(block, console.width, only_ascii=self.only_ascii))
        elif block.rows:
            fitted_table = _drop_columns(self._encodable(block), console.width)
            widths = _widths(fitted_table, console.width)
            console.width = max(console.width, _total_width(widths))
            console.print(_rich_table(fitted_table, widths, only_ascii=self.only_ascii))
            if block.footer:
                console.print(Text(escape_hidden(block.footer)), soft_wrap=True)
        else:
            console.print(Text(escape_hidden(block.empty)), soft_wrap=True)

    def _encodable(self, block: Table) -> Table:
        """Return the table in the stream's encoding, so that widths count replaced characters as they are written."""
        target = self.target or self.out
        if _supports_unicode(target) or not isinstance(target, TextIOWrapper):
            return block
        encoding, errors = target.encoding, target.errors or "strict"
        rows = [[escape_hidden(cell).encode(encoding, errors).decode(encoding) for cell in row] for row in block.rows]
        return msgspec.structs.replace(block, rows=rows)

    def _console(self) -> Any:
        from rich.console import Console

        target = self.target or self.out
        width = None if target.isatty() or os.environ.get("COLUMNS") else UNBOUNDED_WIDTH
        return Console(
            file=self.out,
            width=width,
            force_terminal=target.isatty(),
            color_system="standard" if shows_styles(target) else None,
            highlight=False,
            markup=False,
            emoji=False,
        )


def to_json(answer: Any, *, only_ascii: bool = False) -> str:
    """Return an answer as a JSON document without characters that control a terminal."""
    try:
        document = msgspec.json.encode(answer).decode()
    except UnicodeEncodeError:  # bytes of the command line that are not UTF-8 become lone surrogates
        import json

        document = json.dumps(msgspec.to_builtins(answer), separators=(",", ":"))
    return escape_hidden_json(document, only_ascii=only_ascii)


def shows_styles(stream: IO[str]) -> bool:
    """Return whether text on the stream may be coloured or bold.

    ``NO_COLOR`` wins (https://no-color.org), then ``FORCE_COLOR``, then what the terminal can do. An empty variable
    counts as not set.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if forced := os.environ.get("FORCE_COLOR"):
        return forced.lower() not in {"0", "false"}
    return os.environ.get("TERM") not in {None, "", "dumb", "unknown"} and stream.isatty()


def _wrap(text: str, stream: IO[str]) -> str:
    """Return text with lines broken between words to fit the terminal; unchanged if the stream is not a terminal."""
    if not stream.isatty():
        return text
    from shutil import get_terminal_size
    from textwrap import wrap

    width, lines = get_terminal_size().columns, []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip(" ")))
        if len(line) > width:
            lines += wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        else:
            lines.append(line)
    return "\n".join(lines)


def _supports_unicode(stream: IO[str]) -> bool:
    """Return whether the stream's encoding supports all characters."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def _locale_supports_unicode() -> bool:
    """Return whether the user's locale supports more than ASCII.

    The stream's encoding does not say so: in the locale C, Python writes UTF-8 and sets LC_CTYPE itself (PEP 538, 540).
    """
    if not os.environ.get("LC_ALL") and os.environ.get("LANG") in ASCII_LOCALES:
        return os.environ.get("LC_CTYPE", "C.UTF-8") != "C.UTF-8" and _is_utf_8(os.environ["LC_CTYPE"])
    chosen = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "utf-8")
    return _is_utf_8(chosen)


def _is_utf_8(locale: str) -> bool:
    return "utf8" in locale.lower().replace("-", "")


def _widths(block: Table, available: int, min_width: int = MIN_SHRUNK_WIDTH) -> list[int]:
    """Return the columns' widths. Columns with ``shrinks`` are narrowed, the widest first, down to ``min_width``."""
    from rich.cells import cell_len

    texts = [[column.name, *(row[index] for row in block.rows)] for index, column in enumerate(block.columns)]
    widths = [max(cell_len(escape_hidden(text)) for text in column) for column in texts]
    while _total_width(widths) > available:
        shrinkable = [
            index for index, column in enumerate(block.columns) if column.shrinks and widths[index] > min_width
        ]
        if not shrinkable:
            break
        widths[max(shrinkable, key=widths.__getitem__)] -= 1
    return widths


def _drop_columns(block: Table, available: int) -> Table:
    """Return the table, without columns until it fits.

    The column with the highest ``drop_priority`` is dropped first; columns without one stay.
    """
    while _total_width(_widths(block, available, MIN_COMFORTABLE_WIDTH)) > available:
        index = max(range(len(block.columns)), key=lambda number: block.columns[number].drop_priority)
        if not block.columns[index].drop_priority:
            break
        columns = [*block.columns[:index], *block.columns[index + 1 :]]
        rows = [[*row[:index], *row[index + 1 :]] for row in block.rows]
        block = msgspec.structs.replace(block, columns=columns, rows=rows)
    return block


def _total_width(widths: Sequence[int]) -> int:
    return sum(widths) + COLUMN_GAP_WIDTH * len(widths) - 1


def _rich_table(block: Table, widths: Sequence[int], *, only_ascii: bool) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    lines = box.Box(ASCII_BOX, ascii=True) if only_ascii else box.SIMPLE_HEAD
    table = RichTable(title=escape_hidden(block.title) or None, title_justify="left", box=lines, pad_edge=False)
    for column, width in zip(block.columns, widths, strict=True):
        table.add_column(
            Text(column.name),
            justify="right" if column.align_right else "left",
            no_wrap=True,
            overflow="ellipsis",
            width=width,
            style=column.style or None,
        )
    for row in block.rows:
        cells = (
            _truncate(escape_hidden(cell), width) if only_ascii else escape_hidden(cell)
            for cell, width in zip(row, widths, strict=True)
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _truncate(cell: str, width: int) -> str:
    """Return a cell cut to its column's width, in ASCII; Rich would append a character that is not ASCII."""
    from rich.cells import cell_len, set_cell_size

    return cell if cell_len(cell) <= width else set_cell_size(cell, width - len(ASCII_ELLIPSIS)) + ASCII_ELLIPSIS


def _rich_panel(block: Panel, available: int, *, only_ascii: bool) -> Any:
    from rich import box
    from rich.cells import cell_len
    from rich.panel import Panel as RichPanel
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable.grid(padding=(0, 2, 0, 0), expand=True)
    widest = max((cell_len(escape_hidden(term)) for term, _ in block.rows), default=0)
    grid.add_column(min_width=min(MIN_TERM_WIDTH, widest), max_width=max(20, available // 2 - 6), style="bold cyan")
    grid.add_column(ratio=1)
    for term, text in block.rows:
        grid.add_row(Text(escape_hidden(term)), Text(escape_hidden(text)))
    width = min(available, MAX_PANEL_WIDTH)
    return RichPanel(
        grid,
        title=Text(escape_hidden(block.title)),
        title_align="left",
        width=width,
        box=box.ASCII if only_ascii else box.ROUNDED,
    )
