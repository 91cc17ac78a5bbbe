"""Commands for hooks."""

from collections.abc import Iterator
from typing import Annotated

import typer

from popug_cli.cli.context import CommandContext, command
from popug_cli.cli.output.blocks import Block, Column, Hint, Table
from popug_cli.kernel.text import counted
from popug_cli.messages.hooks import Hook, Hooks, ListHooks, RetryHook, TryHook, TryHookResult

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The hook's file name, from `popug hooks list`.")]

hooks = typer.Typer(help="Your own programs that receive events.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Add the commands to the program."""
    program.add_typer(hooks, name="hooks")


@command(hooks, "list")
def list_(context: CommandContext) -> None:
    """List the home's hooks: their state, waiting events, dead letters, last run and last error."""
    hooks = context.backends.perform(ListHooks())
    context.screen.show(hooks, lambda: _hook_blocks(context, hooks))


@command(hooks, "test")
def try_(
    context: CommandContext,
    name: NameArgument,
    event: Annotated[
        str | None, typer.Option("--event", metavar="EVENT_ID", help="Use this event; by default the last of its kind.")
    ] = None,
) -> None:
    """Run a hook once with an event on its stdin, and show its output; the run is not recorded."""
    trial = context.backends.perform(TryHook(name=name, event_id=event))
    context.screen.show(trial, lambda: _trial_lines(name, trial))


@command(hooks, "retry")
def retry(context: CommandContext, name: NameArgument) -> None:
    """Queue a hook's dead letters again; the scheduler or the server runs it."""
    answer = context.backends.perform(RetryHook(name=name))
    events = counted(answer.queued, "event")
    context.screen.show(answer, lambda: [f"{events} will be given to {name} again."])


def _hook_blocks(context: CommandContext, answer: Hooks) -> Iterator[Block]:
    columns = [
        Column("hook"),
        Column("state"),
        Column("waiting", align_right=True),
        Column("dead", align_right=True),
        Column("last run"),
    ]
    yield Table(
        columns, [_row(context, hook) for hook in answer.hooks], empty=f"There are no hooks in {answer.folder}."
    )
    if not answer.hooks:
        yield Hint(
            "Put an executable there that is named after an event, such as task_assigned, or any for all events."
        )
    for hook in answer.hooks:
        if hook.last_error:
            yield f"{hook.name} failed: {hook.last_error}"
    for hook in answer.hooks:
        if hook.problem:
            yield Hint(f"{hook.name} is not run: {hook.problem}")
    if dead := next((hook for hook in answer.hooks if hook.dead), None):
        yield Hint(f"Next: popug hooks test {dead.name}, then popug hooks retry {dead.name}")


def _row(context: CommandContext, hook: Hook) -> list[str]:
    last_run = context.screen.when(hook.last_run_at) if hook.last_run_at else "never"
    retry_note = (
        f" at {context.screen.local_time(hook.next_try_at)}" if hook.state == "retrying" and hook.next_try_at else ""
    )
    return [hook.name, hook.state + retry_note, str(hook.waiting), str(hook.dead), last_run]


def _trial_lines(name: str, trial: TryHookResult) -> Iterator[Block]:
    type_ = str(trial.event.get("type", "")).removeprefix("popug.")
    event_text = f"a sample of {type_}, because none exists yet" if trial.is_sample else f"{type_} {trial.event['id']}"
    yield f"{name} was given {event_text} and ended with exit status {trial.exit}."
    if trial.output:
        yield trial.output.rstrip("\n")
    else:
        yield "It wrote nothing."
