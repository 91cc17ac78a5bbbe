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
    _show_explanation(
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
    _show_explanation(context, answer, f"Management income of {date or 'today'}")


@command(explain, "task")
def task(
    context: CommandContext, number: Annotated[int, typer.Argument(metavar="NUMBER", min=1, help="The task's number.")]
) -> None:
    """Explain what a task did to the balances that you may see."""
    _show_explanation(
        context,
        context.backends.perform(ExplainTask(number=number)),
        f"The sum of the entries of #{number} that you may see",
    )


def _show_explanation(context: CommandContext, answer: Explanation, figure: str) -> None:
    context.screen.show(answer, lambda: _explanation_blocks(context, answer, figure))


def _explanation_blocks(context: CommandContext, answer: Explanation, figure: str) -> Iterator[Block]:
    yield Heading(f"{figure} is {format_cents(answer.figure_cents)}")
    for node in answer.because:
        yield from _node_lines(context, node, "  ")
    if not answer.because:
        yield "  There are no entries."


def _node_lines(context: CommandContext, node: ExplanationNode, indent: str) -> Iterator[Block]:
    amount = f"{format_cents(node.amount_cents)}  " if node.amount_cents is not None else ""
    yield f"{indent}{amount}{node.what}{_time_text(context, node)}"
    if node.rule:
        yield f"{indent}    rule: {node.rule}"
    if node.event_id and not node.entry_id:
        yield f"{indent}    event {node.event_id}"
    for cause in node.because:
        yield from _node_lines(context, cause, indent + "    ")


def _time_text(context: CommandContext, node: ExplanationNode) -> str:
    if node.occurred_at is None:
        return ""
    occurred = context.screen.local_time(node.occurred_at)
    recorded = context.screen.local_time(node.recorded_at) if node.recorded_at else occurred
    return f" ({occurred})" if recorded == occurred else f" ({occurred}, recorded {recorded})"
