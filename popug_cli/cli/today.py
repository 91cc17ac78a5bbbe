"""The command that shows one's own day on one screen."""

from collections.abc import Iterator
from typing import Annotated

import typer

from popug_cli.cli.ago import clock, when
from popug_cli.cli.blocks import Block, Column, Heading, Hint, Table
from popug_cli.cli.dates import start_of
from popug_cli.cli.face import Face, add_commands, command
from popug_cli.cli.looked import Looked
from popug_cli.cli.task_list import table
from popug_cli.kernel.money import format_cents
from popug_cli.messages.today import Happening, News, ShowToday, Today

SENTENCES = {
    News.GIVEN: "is yours now",
    News.KEPT: "was drawn for you again",
    News.TAKEN: "went to {assignee}",
    News.COMPLETED: "completed",
    News.PAID: "You were paid {paid}",
    News.CORRECTED: "was corrected",
    News.ROLE_CHANGED: "You are {role} now",
}

commands = typer.Typer()


def register(program: typer.Typer) -> None:
    """Add the command to the program."""
    add_commands(program, commands)


@command(commands, "today")
def today(
    face: Face,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="Tell what happened since then: monday, yesterday, '2 hours ago'."
        ),
    ] = None,
    peek: Annotated[bool, typer.Option("--peek", help="Do not remember that you looked.")] = False,
) -> None:
    """Show my day: open tasks, balance, what happened since I last looked, and what to do next."""
    show_day(face, since=since, peek=peek)


def show_day(face: Face, *, since: str | None = None, peek: bool = False) -> None:
    """Show the day of whoever is logged in, and remember how far they have seen."""
    looked = Looked(face.company, face.token or "")
    after, instant = (None, start_of(face, since)) if since is not None else looked.last() or (None, None)
    day = face.perform(ShowToday(after=after, since=instant))
    face.show(day, lambda: _screen(face, day, has_looked=after is not None))
    if not peek:
        looked.remember(day.last_sequence, face.place.now())


def _screen(face: Face, day: Today, *, has_looked: bool) -> Iterator[Block]:
    in_red = ", in the red" if day.balance_cents < 0 else ""
    yield Heading(f"{day.username} ({day.role}), {day.business_date:%A} {day.business_date}")
    yield (f"Balance {format_cents(day.balance_cents)}{in_red}; earned today {format_cents(day.earned_today_cents)}.")
    yield ""
    yield Heading("My open tasks, the dearest first")
    yield table(face, day.tasks, of_one=True, footer=_sum(day), empty="You have no open tasks.")
    yield ""
    now, calendar = face.place.now(), face.place.calendar
    since = f"I last looked, {when(day.since, now, calendar)}" if has_looked else clock(day.since, now, calendar)
    before = day.happened_count - len(day.happened)
    yield Heading(f"What happened since {since}")
    yield Table(
        (Column("When"), Column("What", flexible=True), Column("By", spare=1), Column("Change", right=True)),
        [_news(each, when(each.at, now, calendar)) for each in day.happened],
        empty="Nothing new.",
        footer=f"and {before} before" if before else "",
    )
    if before or not day.happened:  # else the table ends with such a line itself
        yield ""
    yield Hint("Next: " + ", or ".join(day.waiting))


def _sum(day: Today) -> str:
    shown = f"{len(day.tasks)} of {day.open_count}" if day.open_count > len(day.tasks) else f"{day.open_count}"
    return f"{shown} open; {format_cents(day.rewards_cents)} to be earned by all of them."


def told(each: Happening) -> str:
    """What happened, in a sentence."""
    paid = format_cents(-(each.signed_cents or 0))
    sentence = SENTENCES[each.what].format(assignee=each.assignee, paid=paid, role=each.role)
    return f"#{each.task.number} {each.task.title} {sentence}" if each.task else sentence


def _news(each: Happening, at: str) -> tuple[str, str, str, str]:
    cents = format_cents(each.signed_cents) if each.signed_cents is not None else ""
    return at, told(each), each.actor, cents
