"""Text of users at the terminal: through every command that prints, as text and as JSON."""

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popug_cli.cli.main import run
from popug_cli.cli.output.blocks import Column, Heading, Hint, Table
from popug_cli.cli.output.printer import Printer
from popug_cli.cli.program import build
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import InvalidInput
from popug_cli.kernel.randomness import SystemRandomSource, uuid7
from popug_cli.messages.identity import IssueToken
from popug_cli.messages.principal import OPERATOR
from popug_cli.messages.tasks import CompleteTask, ImportTasks, NewTask
from tests.support.company import InProcess, SetClock
from tests.support.hostile_text import hostile_texts, raw_characters
from tests.support.identity_company import CHEAP

TEXTS = hostile_texts(10_000)
PEOPLE, TASKS, POISON = 400, 60, 20
A_DAY = 24 * 3600
MARKUP = "[red]x[/red]"


@dataclass
class Shown:
    """The output of one command line."""

    line: tuple[str, ...]
    code: int
    out: str
    err: str

    def is_safe(self) -> "Shown":
        assert raw_characters(self.out + self.err) == set(), self.line
        assert "Traceback" not in self.err, self
        assert self.code != 1, self
        return self

    def strings(self) -> set[str]:
        """Return every string of the JSON document or of the JSON lines."""
        return {string for line in self.out.splitlines() for string in strings_in(json.loads(line))}


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from (name, *strings_in(each))
    elif isinstance(value, list):
        for each in value:
            yield from strings_in(each)


@dataclass
class Stage:
    """A company whose every text is hostile, and its program."""

    company: InProcess
    titles: list[str]
    names: list[str]
    logged: list[str]
    program: Any = field(default_factory=build)

    def show(self, *line: str) -> Shown:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run([word.replace("\0", "") for word in line], self.program)  # no argument can hold a NUL
        return Shown(line, code, out.getvalue(), err.getvalue())

    def first(self, statement: str) -> str:
        return str(next(iter(self.company.rows(statement)[0].values())))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    root = tmp_path_factory.mktemp("hostile")
    (root / "elsewhere").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        settings = {"POPUG_BUS_MAX_ATTEMPTS": "1", "POPUG_HOME": str(root / "home"), "COLUMNS": "500"}
        for variable, value in (CHEAP | settings | {"POPUG_SESSION": str(root / "session.json")}).items():
            patch.setenv(variable, value)
        patch.chdir(root / "elsewhere")
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
        stage = furnish(root / "home")
        token = stage.company.act("boss", IssueToken(username="boss", ttl_seconds=A_DAY)).token
        patch.setenv("POPUG_TOKEN", token)
        yield stage


def furnish(root: Path) -> Stage:
    """Write hostile text past all rules, as an event from outside, a row or an old version might."""
    company = InProcess(root, time_zone="UTC", clock=SetClock(datetime.now(UTC).replace(microsecond=0)))
    company.hire("kesha")
    names, titles, logged = TEXTS[:PEOPLE], TEXTS[:TASKS], TEXTS[PEOPLE:]
    tasks: list[NewTask | None] = [NewTask(title=f"Feed cage {number}") for number in range(TASKS)]
    company.act("boss", ImportTasks(lines=tasks))
    with company.backend.runtime.writing(OPERATOR) as context:
        context.connection.execute("PRAGMA ignore_check_constraints=ON")
        for table in ("tasks_tasks", "billing_tasks", "analytics_tasks"):
            ids = [row[0] for row in context.connection.select(f"SELECT task_id FROM {table} ORDER BY task_id")]
            rows = [*zip(titles, ids, strict=True)]
            context.connection.insert_many(f"UPDATE {table} SET title = ? WHERE task_id = ?", rows)
        people = [(f"user-{n}", lowered(name), f"{name}@{n}", f"{n}", "worker") for n, name in enumerate(names)]
        context.connection.insert_many(
            "INSERT INTO identity_users (user_id, username, email, email_key, role, active, registered_at)"
            " VALUES (?, ?, ?, ?, ?, 1, '2026-01-01T00:00:00.000000Z')",
            people,
        )
        context.connection.execute("PRAGMA ignore_check_constraints=OFF")
    for number in range(1, TASKS):
        company.act("kesha", CompleteTask(number=number))
    append(company, [unknown(logged[at : at + 30]) for at in range(0, len(logged), 30)])
    append(company, [poisonous(each) for each in TEXTS[:POISON]])
    return Stage(company, titles, [lowered(name) for name in names], logged)


def lowered(name: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in name)


def unknown(texts: list[str]) -> dict[str, Any]:
    """Append an event of an unknown type."""
    data = {"texts": texts, texts[0]: None}
    return {"type": "popug.cage." + texts[0], "source": texts[1], "subject": texts[2], "actor": texts[3], "data": data}


def poisonous(bad: str) -> dict[str, Any]:
    """Append an event on which every consumer fails."""
    return {"type": "popug.identity.user_registered.v1", "subject": bad, "time": bad, "actor": bad, "data": {bad: bad}}


def append(company: InProcess, events: list[dict[str, Any]]) -> None:
    with company.backend.runtime.writing(OPERATOR) as context:
        head = context.log.last_position()
        common = {"specversion": "1.0", "time": to_rfc3339(context.now), "source": "/popug/cage"}
        rows = [
            (n, json.dumps({"id": uuid7(context.now, SystemRandomSource()), "sequence": str(n), **common, **event}))
            for n, event in enumerate(events, head + 1)
        ]
        context.connection.insert_many("INSERT INTO bus_log (sequence, envelope) VALUES (?, ?)", rows)


# --- stored text ---------------------------------------------------------------------------------

SCREENS: dict[str, tuple[str, ...]] = {
    line: tuple(line.split())
    for line in (
        *("whoami", "user list", "user show kesha", "token list", "token keys", "permissions", "config show", "doctor"),
        *("tasks list --all --limit 1000", "tasks list --all --search x", "tasks export", "task show 1"),
        *("balance kesha", "statement kesha", "income", "analytics", "close-day --dry-run", "close-day"),
        *("tasks fairness", "ledger verify"),
        *("mail list", "mail send", "events list", "events list --limit 3", "events status", "events dead"),
        *("events retry --all", "events trace 1", "events replay --verify", "events schemas"),
        *("analytics --date tomorrow", "config show"),
        *("ledger export --format csv", "ledger export --format hledger", "ledger export --format beancount"),
        *("explain balance kesha", "explain task 1", "explain income"),
    )
}  # fmt: skip


@pytest.mark.parametrize("line", SCREENS)
def test_stored_text_is_shown_without_raw_characters(stage: Stage, line: str) -> None:
    stage.show(*SCREENS[line]).is_safe()
    stage.show(*SCREENS[line], "--json").is_safe()


def test_record_with_an_id_is_shown_without_raw_characters(stage: Stage) -> None:
    stage.show("close-day", "--no-mail").is_safe()
    mail_id = stage.first("SELECT mail_id FROM mail_outbox")
    with stage.company.backend.runtime.writing(OPERATOR) as context:
        context.connection.execute("UPDATE mail_outbox SET last_error = :bad", bad="".join(TEXTS[:100]))
        context.connection.execute("UPDATE mail_receivers SET username = :bad, email = :bad", bad=TEXTS[0])
    event_ids = [row["id"] for row in stage.company.rows("SELECT id FROM bus_log ORDER BY sequence DESC LIMIT 30")]
    for line in (("mail", "show", mail_id), ("mail", "list"), ("mail", "retry", mail_id), ("mail", "send")):
        stage.show(*line).is_safe()
        stage.show(*line, "--json").is_safe()
    for event_id in event_ids:
        stage.show("events", "show", event_id).is_safe()
        stage.show("events", "show", event_id, "--json").is_safe()


def test_json_decodes_to_the_stored_text(stage: Stage) -> None:
    assert set(stage.logged) <= stage.show("events", "list", "--limit", "100000", "--json").is_safe().strings()
    assert set(stage.names) <= stage.show("user", "list", "--json").strings()
    assert set(stage.titles) <= stage.show("tasks", "list", "--all", "--limit", "1000", "--json").strings()
    assert set(stage.titles) <= stage.show("tasks", "export").is_safe().strings()
    assert set(TEXTS[:POISON]) <= stage.show("events", "dead", "--json").strings()


def test_nothing_is_read_as_markup(stage: Stage) -> None:
    for line in ("user list", "tasks list --all --limit 1000"):
        shown = stage.show(*line.split()).out
        for written in (MARKUP, "[bold", "[link=http://evil.example]x[/link]", ":smile:", "\\x1b[31mred"):
            assert written in shown, (line, written)


def test_reason_and_an_error_are_shown_and_kept_as_they_are(stage: Stage) -> None:
    (first, *_) = json.loads(stage.show("events", "dead", "--json").out)["dead"]
    reason = "\x1b]0;owned\x07because \u202e[red]of[/red]"
    stage.show("events", "drop", str(first["dead_id"]), "--reason", reason).is_safe()
    listed = stage.show("events", "list", "--type", "dead_letter_dropped", "--limit", "1000", "--json").is_safe()
    assert reason in listed.strings()


# --- typed text ----------------------------------------------------------------------------------

LASTING = {"demo", "init", "scheduler", "serve", "dashboard", "follow"}  # they would keep running, or create a company


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command of the program with its words."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name in command.list_commands(None):
        yield from leaves(command.get_command(None, name), (*path, name))


COMMANDS = {" ".join(path): command for path, command in leaves(build())}


@pytest.mark.parametrize("line", COMMANDS)
def test_argument_is_quoted_without_raw_characters(stage: Stage, line: str) -> None:
    """Try each argument and each option of each command with hostile text."""
    words, command = tuple(line.split()), COMMANDS[line]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.is_flag]
    tries = [(*words, "--\x1b[31m\u202e" + bad) for bad in ("", "\x00", "\ud800", "\udcff")]
    for n, bad in enumerate((*TEXTS[:6], "\udcff\x1b[31m", "\x00", MARKUP)):
        given_arguments = [TEXTS[n + 60 + i] if n % 2 else bad for i, _ in enumerate(arguments)]
        safe = ["--", *given_arguments] if given_arguments else []
        chosen = [each for each in options if each.name != "home" and not (each.name == "server" and bad == "\x00")]
        tries += [(*words, f"{each.opts[-1]}={bad}", *safe) for each in chosen]  # else a real logout
        if arguments:
            tries.append((*words, *safe))
    for each in tries:
        if LASTING & {*words} and each[len(words)][:3] != "--\x1b":
            continue
        stage.show(*each).is_safe()
        stage.show("--json", *each).is_safe()


@pytest.mark.parametrize("bad", ["\x1b[31m", "\u202e", "\udcff", "\x9b", "a\nb", MARKUP])
def test_path_is_named_without_raw_characters(
    stage: Stage, bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in ("whoami", "doctor", "login kesha --password-stdin", "events follow", "config show"):
        assert stage.show("--home", str(tmp_path / bad), *line.split()).is_safe().code == 3
    monkeypatch.setenv("POPUG_SESSION", str(tmp_path / bad / "session.json"))
    monkeypatch.delenv("POPUG_TOKEN")
    assert stage.show("whoami").is_safe().code == 4
    (tmp_path / bad).mkdir(parents=True)
    (tmp_path / bad / "session.json").write_text("no session")
    assert stage.show("whoami").is_safe().code == 4
    (tmp_path / bad / "session.json").chmod(0o600)
    assert stage.show("whoami").is_safe().code == 4
    monkeypatch.setenv("POPUG_TOKEN", bad)
    assert stage.show("whoami").is_safe().code == 4


def test_unknown_command_is_quoted(stage: Stage) -> None:
    for bad in TEXTS[:40]:
        if not bad.startswith("-"):
            assert stage.show(bad).is_safe().code == 2


@pytest.mark.parametrize("line", ["user import", "tasks import"])
def test_invalid_file_is_quoted_without_raw_characters(stage: Stage, line: str, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    lines = [{"title": bad, "username": bad, "email": bad, "role": bad} for bad in TEXTS[:20]]
    fields = ("title",) if line == "tasks import" else ("username", "email", "role")
    raw = [b'{"title": "\\ud800"}', b'{"title": "\xff\x1b[31m"}', b"\x1b[31m", b'{"\\u001b[31m": 1}']
    for content in (*(json.dumps({name: each[name] for name in fields}).encode() for each in lines), *raw):
        file.write_bytes(content)
        assert stage.show(*line.split(), str(file)).is_safe().code in {0, 2, 6}


def test_invalid_setting_is_quoted_without_raw_characters(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in TEXTS[:30]:
        stage.show("config", "set", "--", bad, bad).is_safe()
        stage.show("config", "set", "--", "mail.transport", bad).is_safe()
    stage.show("config", "set", "mail.from", "\u202epolly@example.com").is_safe()
    for bad in ("\x1b[31m", "\u202e", "\udcff"):
        monkeypatch.setenv("POPUG_MAIL_TRANSPORT", bad)
        assert stage.show("config", "show").is_safe().code == 0
    monkeypatch.delenv("POPUG_MAIL_TRANSPORT")
    (stage.company.root / "config.toml").write_text('[mail]\n"\\u202e" = "\\u001b[31m"\n')
    assert stage.show("config", "show").is_safe().code == 0
    (stage.company.root / "config.toml").unlink()


# --- the printer itself --------------------------------------------------------------------------


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_printer_escapes_every_raw_character(texts: list[str]) -> None:
    printer = Printer(io.StringIO(), io.StringIO())
    bad = "\n".join(texts)
    columns = [Column("x", shrinks=True) for _ in texts]
    table = Table(columns, [texts], title=bad, footer=bad)
    printer.blocks([bad, Heading(bad), Hint(bad), table, Table(columns, [], empty=bad)])
    error = InvalidInput(bad, bad, hint=bad, details={bad: texts})
    printer.line(bad)
    for tell in (printer.warn, printer.remark, printer.ask, printer.traceback):
        tell(bad)
    printer.error(error, as_json=False)
    assert raw_characters(written(printer)) == set()


@given(
    st.recursive(st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
)
def test_json_document_is_safe_and_decodes_unchanged(value: Any) -> None:
    printer = Printer(io.StringIO(), io.StringIO())
    printer.document(value)
    assert json.loads(written(printer)) == value
    printer.error(InvalidInput("x", "y", details={"value": value}), as_json=True)
    assert raw_characters(written(printer)) == set()


def written(printer: Printer) -> str:
    assert isinstance(printer.out, io.StringIO)
    assert isinstance(printer.err, io.StringIO)
    return printer.out.getvalue() + printer.err.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_valid_on_any_encoding(encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    Printer(out=stream).document(TEXTS)
    stream.flush()
    assert json.loads(stream.buffer.getvalue().decode(encoding)) == TEXTS
