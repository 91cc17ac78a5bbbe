"""Commands: ledger."""

from collections.abc import Iterator
from typing import Annotated

import typer

from popug_cli.cli.face import Face, command
from popug_cli.cli.render import Block, Hint
from popug_cli.kernel.money import format_cents
from popug_cli.messages.billing import CorrectEntry, Entry
from popug_cli.messages.company import LedgerProof, VerifyLedger

PANEL = "Money"
INTEGRITY_FAILED = 7


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    ledger = typer.Typer(help="Prove, correct and export the ledger.", no_args_is_help=True)
    program.add_typer(ledger, name="ledger", rich_help_panel=PANEL)
    command(ledger, "verify")(verify)
    command(ledger, "correct")(correct)


def verify(
    face: Face,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HASH", help="A head that was kept, such as a payout mail's.")
    ] = None,
) -> None:
    """Prove the log's hash chain, every entry and every draw; exit 7 and the first wrong thing if they are not so."""
    proof = face.perform(VerifyLedger(head=head))
    face.show(proof, lambda: _proof(proof, head))
    if not proof.ok:
        raise typer.Exit(INTEGRITY_FAILED)


def correct(
    face: Face,
    entry_id: Annotated[str, typer.Argument(metavar="ENTRY_ID", help="The entry that is wrong.")],
    reason: Annotated[str, typer.Option("--reason", metavar="R", help="Why it is wrong, for the record.")],
) -> None:
    """Post the entry that reverses a wrong fee or reward, in the open day; nothing is changed or removed."""
    entry = face.perform(CorrectEntry(entry_id=entry_id, reason=reason))
    face.show(entry, lambda: [_reversal(entry)])


def _reversal(entry: Entry) -> str:
    task = f" of #{entry.task.number} {entry.task.title}" if entry.task else ""
    kind = entry.kind.replace("_", " ")
    return f"{entry.business_date}: {kind}{task}, {format_cents(entry.signed_cents)}, as entry {entry.entry_id}."


def _proof(proof: LedgerProof, head: str | None) -> Iterator[Block]:
    if proof.ok:
        yield f"The ledger holds: {proof.entries:,} {'entry' if proof.entries == 1 else 'entries'}, every draw proved."
        if head is not None:
            yield "The head that you gave is part of this history."
    else:
        yield f"The ledger cannot be believed. {proof.first_wrong}"
        yield Hint("Keep a copy of the home as it is; `popug doctor` names all that is wrong.")
    yield f"Head of the hash chain: {proof.head}"
