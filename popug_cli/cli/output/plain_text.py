"""Plain output for screen readers: no boxes, no colour, no charts; one record a line, with every value named."""

from collections.abc import Iterator

from popug_cli.cli.output.blocks import Heading, Hint, Panel, Table


def lines(block: Table | Hint | Heading | Panel) -> Iterator[str]:
    """Yield a block as lines; each row of a table is one line, with every value named."""
    if isinstance(block, Hint | Heading):
        yield block.text
    elif isinstance(block, Panel):
        yield f"{block.title}:"
        yield from (f"{term}: {text}" if text else term for term, text in block.rows)
    else:
        yield from _record_lines(block)


def _record_lines(table: Table) -> Iterator[str]:
    if table.title and table.rows:
        yield f"{table.title}:"
    for row in table.rows:
        named_cells = [
            f"{column.accessible_name or column.name.lower()} {cell}".strip()
            for column, cell in zip(table.columns, row, strict=True)
            if cell and not column.is_chart
        ]
        yield ", ".join(named_cells)
    if not table.rows and table.empty:
        yield table.empty
    elif table.rows and table.footer:
        yield table.footer
