"""A scenario: the commands of a working day in order, and the state that each must leave.

A seed decides the number of users and tasks, and the order of the commands in the middle.
"""

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from tests.simulation.disk import command_runner
from tests.simulation.disk.command_runner import Order, Outcome, Trouble, carry_out, examine
from tests.simulation.disk.snapshot import State

MORNING = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
BETWEEN = timedelta(minutes=3)
WORD = "seven-cages-under-9-moons"
NEW_WORD = "eight-cages-under-9-moons"
HOLDER = (
    "SELECT number, username FROM tasks_tasks JOIN identity_users ON user_id = assignee_id"
    " WHERE status = 'open' ORDER BY number LIMIT 1"
)
FEE = "SELECT entry_id FROM billing_entries e WHERE kind = 'fee' AND NOT EXISTS ({}) ORDER BY position LIMIT 1".format(
    "SELECT 1 FROM billing_entries r WHERE r.corrects = e.entry_id"
)


class Command(NamedTuple):
    """A command of the scenario.

    ``ask`` is a query for the values in braces in line and actor. A ``staged`` command takes several transactions, so
    that a cut or a fault may leave it half done, and the repeat finishes it. A ``writes_file`` command takes one
    transaction and writes a file next to the database, so that a cut may leave it half done. A repeat waits for
    ``quiet_for`` (a lease); ``otherwise`` is the command to run if it is refused. ``broken`` names a consumer that
    fails during the command; such a command only prepares later ones.
    """

    name: str
    line: tuple[str, ...]
    typed: str = ""
    actor: str = "ada"
    ask: str = ""
    staged: bool = False
    writes_file: bool = False
    quiet_for: timedelta = timedelta(0)
    broken: str = ""
    next_day: bool = False
    otherwise: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A command of the scenario, with a copy of the home before it."""

    number: int
    command: Command
    order: Order
    before: Path

    @property
    def again(self) -> Order:
        """Return the repeat of the command."""
        order = command_runner.later(self.order, seconds=self.command.quiet_for.total_seconds())
        return order._replace(otherwise=self.command.otherwise)


@dataclass(frozen=True)
class Rehearsal:
    """The undisturbed effect of a step: the states before it, after it and after it is done twice.

    ``points`` is the number of its disk operations.
    """

    step: Step
    at_first: State
    once: State
    twice: State
    done: Outcome
    again: Outcome

    @property
    def points(self) -> int:
        return self.done.points


@dataclass(frozen=True)
class Day:
    """Return the steps of a scenario without those that only prepare."""

    seed: str
    folder: Path
    steps: tuple[Step, ...]

    def step(self, number: int) -> Step:
        """Return the step of that number."""
        return next(step for step in self.steps if step.number == number)


def commands(chance: random.Random, folder: Path) -> list[Command]:
    """Return the commands of a scenario; write the files that they read into the folder."""
    people, tasks = chance.randint(1, 3), chance.randint(1, 6)
    newcomers = [{"username": f"n{n}", "email": f"n{n}@popug.example", "role": "worker"} for n in range(people)]
    titles = [{"title": f"Chore {n} {'x' * chance.randint(0, 120)}"} for n in range(tasks)]
    staff, chores = _lines(folder / "people.jsonl", newcomers), _lines(folder / "tasks.jsonl", titles)
    lease = timedelta(minutes=30)
    complete = Command("task complete", ("task", "complete", "{number}"), actor="{username}", ask=HOLDER)
    morning = [
        Command("init", _words("init --admin ada --email ada@popug.example --time-zone Europe/Berlin --password-stdin"),
                f"{WORD}\n", actor="", staged=True, otherwise=("login", "ada", "--password-stdin", "--json")),
        Command("login", ("login", "ada", "--password-stdin"), f"{WORD}\n", actor=""),
        Command("user add", _words("user add bob --email b@popug.example --role worker --password-stdin"), f"{WORD}\n"),
        Command("user import", ("user", "import", staff)),
        Command("task add", ("task", "add", "[POPUG-1] Feed the cage")),
        Command("tasks import", ("tasks", "import", chores)),
    ]  # fmt: skip
    middle = [
        complete,
        Command("tasks shuffle", ("tasks", "shuffle", "--yes")),
        Command("balance", ("balance",), actor="bob"),
        Command("set-role", ("user", "set-role", "n0", "accountant")),
        Command("config set", ("config", "set", "mail.from", "cage@popug.example"), writes_file=True),
        Command("token issue", _words("token issue bob --ttl 30d")),
        Command("token rotate", ("token", "rotate"), writes_file=True),
        Command("passwd", _words("user passwd bob --password-stdin"), f"{NEW_WORD}\n"),
        Command("task add again", ("task", "add", "Polish the perch")),
        complete._replace(name="complete again"),
        Command("correct", ("ledger", "correct", "{entry_id}", "--reason", "a slip"), ask=FEE),
        Command("backup", ("backup",), actor=""),
        Command("break", ("task", "add", "Nobody counts this"), broken="analytics"),
        Command("events replay", ("events", "replay")),
    ]
    send = Command("mail send", ("mail", "send"), staged=True, quiet_for=lease)
    close = Command("close-day", ("close-day",), staged=True, quiet_for=lease)
    evening = [
        Command("events retry", ("events", "retry", "--all"), staged=True),
        complete._replace(name="complete late"),
        *([close] if chance.random() < 0.5 else [close._replace(line=("close-day", "--no-mail")), send]),
        Command("task add late", ("task", "add", "Sweep the floor")),
        complete._replace(name="complete too late"),
        Command("close-day for tomorrow", ("close-day", "--no-mail"), staged=True, next_day=True),
        Command("deactivate", ("user", "deactivate", "bob"), next_day=True),
        send._replace(name="mail send tomorrow", next_day=True),
        Command("logout", ("logout",), actor="", staged=True, next_day=True),
    ]
    chance.shuffle(middle)
    return morning + middle + evening


Watch = Callable[[int, int], None]


def build(seed: str, folder: Path, watch: Watch = lambda done, total: None, *, length: int | None = None) -> Day:
    """Run the scenario undisturbed, or its first few commands, and keep the home before each."""
    live = folder / "live"
    live.mkdir(parents=True)
    steps: list[Step] = []
    planned = commands(random.Random(seed), folder)[:length]
    for number, command in enumerate(planned):
        watch(number, len(planned))
        before = folder / f"before-{number}"
        order = _order(seed, number, command, live)
        shutil.copytree(live, before)
        if not command.broken:
            steps.append(Step(number, command, order, before))
        _must(command, carry_out(live, order, prepare=_breaking(command.broken)))
    return Day(seed, folder, tuple(steps))


def rehearse(step: Step, root: Path) -> Rehearsal:
    """Do the step undisturbed, once and twice, in a separate folder."""
    fresh(step.before, root)
    at_first = _sound(root, step.order)
    fresh(step.before, root)
    done = _must(step.command, carry_out(root, step.order, Trouble()))
    once = _sound(root, step.order)
    again = command_runner.give(root, step.again)
    twice = _sound(root, step.again)
    return Rehearsal(step, at_first, once, twice, done, again)


def fresh(source: Path, target: Path) -> Path:
    """Copy a home to work on; remove the earlier copy."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    session = target / "session.json"
    if session.exists():  # it names a home by its path
        tokens = json.loads(session.read_text(encoding="utf-8"))
        [token] = [token for place, token in tokens.items() if not place.startswith("device ")]
        session.write_text(json.dumps({str(target / "home"): token}), encoding="utf-8")
    return target


def _order(seed: str, number: int, command: Command, live: Path) -> Order:
    found = _ask(live, command.ask)
    actor = command.actor.format(**found)
    at, chance = MORNING + number * BETWEEN + timedelta(days=command.next_day), f"{seed}/{number}"
    line = (*(word.format(**found) for word in command.line), "--json")
    order = Order(line, at, chance, command.typed)
    return order if actor in {"", "ada"} else order._replace(token=_token(live, actor, order))


def _token(live: Path, actor: str, order: Order) -> str:
    """Return a token that the admin issues, as a part of the scenario."""
    issue = ("token", "issue", actor, "--ttl", "3d", "--json")
    done = carry_out(live, order._replace(line=issue, typed="", chance=f"{order.chance}/token"))
    assert done.code == 0, done
    return str(json.loads(done.stdout.splitlines()[-1])["token"])


def _ask(live: Path, statement: str) -> dict[str, object]:
    if not statement:
        return {}
    with closing(sqlite3.connect(live / "home" / "popug.db")) as database:
        database.row_factory = sqlite3.Row
        row = database.execute(statement).fetchone()
    assert row is not None, statement
    return dict(row)


def _breaking(consumer: str) -> Callable[[], None] | None:
    """Make a consumer fail permanently."""
    if not consumer:
        return None

    def prepare() -> None:
        import os
        from dataclasses import replace

        from popug_cli import bootstrap

        real = bootstrap.consumer_of

        def fail(events: object, context: object) -> None:
            raise RuntimeError("broken for the day")

        os.environ["POPUG_BUS_MAX_ATTEMPTS"] = "1"
        bootstrap.consumer_of = lambda module: (
            replace(real(module), consume=fail) if module == consumer else real(module)
        )

    return prepare


def _must(command: Command, done: Outcome) -> Outcome:
    if done.code != 0:
        raise RuntimeError(f"{command.name} fails undisturbed: {done}")
    return done


def _sound(root: Path, order: Order) -> State:
    examined = examine(root, order)
    if examined.wrong:
        raise RuntimeError(f"after {' '.join(order.line)}, undisturbed: {examined.wrong}")
    return examined.state


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


def _lines(file: Path, rows: list[dict[str, str]]) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)
