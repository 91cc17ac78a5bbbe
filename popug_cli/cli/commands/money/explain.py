"""Commands that explain a figure: balance, income, task."""

from collections.abc import Iterator
from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.input.dates import day_option
from popug_cli.cli.output.blocks import Block, Heading
from popug_cli.kernel.money import format_cents
from popug_cli.messages.company import ExplainBalance, ExplainIncome, ExplainTask, Explanation, ExplanationNode

explain = typer.Typer(help="Explain a figure, down to events and draws.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(explain, name="explain")


@command(explain, "balance")
def balance(
    context: CommandContext,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A username; by default your own.")] = None,
) -> None:
    """Explain a balance: the amount brought forward, and each entry since then with its causes."""
    _show(
        context,
        context.backends.perform(ExplainBalance(username=name)),
        f"The balance of {name}" if name else "Your balance",
    )


@command(explain, "income")
def income(
    context: CommandContext,
    date: Annotated[str | None, typer.Option("--date", metavar="DATE", help="A date; today by default.")] = None,
) -> None:
    """Explain management's income of a date."""
    answer = context.backends.perform(ExplainIncome(day=day_option(context, date)))
    _show(context, answer, f"Management income of {date or 'today'}")


@command(explain, "task")
def task(
    context: CommandContext, number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="The task's number.")]
) -> None:
    """Explain what a task did to the balances that you may see."""
    _show(
        context,
        context.backends.perform(ExplainTask(number=number)),
        f"The sum of the entries of #{number} that you may see",
    )


def _show(context: CommandContext, answer: Explanation, figure: str) -> None:
    context.screen.show(answer, lambda: _tree(context, answer, figure))


def _tree(context: CommandContext, answer: Explanation, figure: str) -> Iterator[Block]:
    yield Heading(f"{figure} is {format_cents(answer.figure_cents)}")
    for reason in answer.because:
        yield from _lines(context, reason, "  ")
    if not answer.because:
        yield "  There are no entries."


def _lines(context: CommandContext, reason: ExplanationNode, indent: str) -> Iterator[Block]:
    amount = f"{format_cents(reason.amount_cents)}  " if reason.amount_cents is not None else ""
    yield f"{indent}{amount}{reason.what}{_when(context, reason)}"
    if reason.rule:
        yield f"{indent}    rule: {reason.rule}"
    if reason.event_id and not reason.entry_id:
        yield f"{indent}    event {reason.event_id}"
    for cause in reason.because:
        yield from _lines(context, cause, indent + "    ")


def _when(context: CommandContext, reason: ExplanationNode) -> str:
    if reason.occurred_at is None:
        return ""
    occurred = context.screen.local_time(reason.occurred_at)
    recorded = context.screen.local_time(reason.recorded_at) if reason.recorded_at else occurred
    return f" ({occurred})" if recorded == occurred else f" ({occurred}, recorded {recorded})"
