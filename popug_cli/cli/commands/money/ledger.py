"""Commands for the ledger: verify, correct, export."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output.blocks import Block, Hint
from popug_cli.cli.output.file import is_stdout, write_new_file
from popug_cli.cli.output.ledger_formats import WRITERS, JournalFormat
from popug_cli.kernel.errors import IntegrityViolation
from popug_cli.kernel.money import format_cents
from popug_cli.kernel.text import counted
from popug_cli.messages.billing import (
    CorrectEntry,
    DayEnd,
    Entry,
    ExportDayEnds,
    ExportLedger,
    LedgerChunk,
    LedgerLine,
)
from popug_cli.messages.company import LedgerProof, VerifyLedger

MAX_ENTRIES_PER_CHUNK = 5_000


class LedgerExport(msgspec.Struct, frozen=True):
    """The path of an export, and its size in bytes."""

    path: str
    bytes: int


ledger = typer.Typer(help="Verify, correct and export the ledger.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(ledger, name="ledger")


@command(ledger, "verify")
def verify(
    context: CommandContext,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HASH", help="A head of the hash chain, such as a payout mail's.")
    ] = None,
) -> None:
    """Verify the log's hash chain, every entry and every draw; exit 7 with the first violation."""
    proof = context.backends.perform(VerifyLedger(head=head))
    context.screen.show(proof, lambda: _proof_blocks(proof, head))
    if not proof.ok:
        raise typer.Exit(IntegrityViolation.exit_status)


@command(ledger, "correct")
def correct(
    context: CommandContext,
    entry_id: Annotated[str, typer.Argument(metavar="ENTRY_ID", help="The id of the wrong entry.")],
    reason: Annotated[str, typer.Option("--reason", metavar="R", help="Why it is wrong, for the record.")],
) -> None:
    """Reverse a wrong fee or reward by a new entry in the open day; no entry is changed or removed."""
    entry = context.backends.perform(CorrectEntry(entry_id=entry_id, reason=reason))
    context.screen.show(entry, lambda: [_reversal_sentence(entry)])


def _reversal_sentence(entry: Entry) -> str:
    task = f" of #{entry.task.number} {entry.task.title}" if entry.task else ""
    kind = entry.kind.replace("_", " ")
    return f"{entry.business_date}: {kind}{task}, {format_cents(entry.signed_cents)}, as entry {entry.entry_id}."


@command(ledger, "export")
def export(
    context: CommandContext,
    format_: Annotated[JournalFormat, typer.Option("--format", help="Output format.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write to this file; - is stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Export the whole ledger for another program, with each account's balance at each day's end as a check."""
    if out is None or is_stdout(out):
        for chunk in _journal_chunks(context, format_):
            context.printer.write(chunk)
        return
    chunks = context.screen.with_progress("Exporting", _journal_chunks(context, format_))
    part_count = write_new_file(out, chunks, force=force, warn=context.printer.warn)
    exported = LedgerExport(str(out), out.stat().st_size)
    context.screen.show(exported, lambda: [f"Wrote {counted(part_count, 'record')} to {out}."])


def _journal_chunks(context: CommandContext, format_: JournalFormat) -> Iterator[str]:
    """Return the parts of a journal, made lazily. Entries posted during the export are left out."""
    chunk = context.backends.perform(ExportLedger(limit=MAX_ENTRIES_PER_CHUNK))
    return WRITERS[format_](_fetch_lines(context, chunk), _fetch_day_ends(context, chunk.up_to))


def _fetch_lines(context: CommandContext, chunk: LedgerChunk) -> Iterator[LedgerLine]:
    while chunk.lines:
        yield from chunk.lines
        chunk = context.backends.perform(
            ExportLedger(after=chunk.lines[-1].position, up_to=chunk.up_to, limit=MAX_ENTRIES_PER_CHUNK)
        )


def _fetch_day_ends(context: CommandContext, up_to: int) -> Iterator[DayEnd]:
    after: str | None = ""
    while after is not None:
        page = context.backends.perform(ExportDayEnds(up_to=up_to, after=after))
        yield from page.ends
        after = page.after


def _proof_blocks(proof: LedgerProof, head: str | None) -> Iterator[Block]:
    if proof.ok:
        yield f"The ledger is intact: {counted(proof.entries, 'entry', 'entries')}, every draw verified."
        if head is not None:
            yield "The head that you gave is part of this history."
    else:
        yield f"The ledger is not intact. {proof.first_wrong}"
        yield Hint("Keep a copy of the home as it is; `popug doctor` lists all violations.")
    yield f"Head of the hash chain: {proof.head}"
