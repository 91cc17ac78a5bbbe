"""A command prints the same over a server and in the home itself: text, JSON and exit code."""

import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

from popug_cli.app.local_backend import LocalBackend
from popug_cli.cli.main import run
from popug_cli.client.address import parse
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.kernel.errors import NotAllowed, NotAuthenticated, Unavailable
from popug_cli.kernel.home import Home
from popug_cli.messages.base import Message
from popug_cli.messages.billing import CloseDay
from popug_cli.messages.bus import ListEvents, ShowBusStatus
from popug_cli.messages.tasks import AddTask, CompleteTask, ExportTasks, ListTasks, ShuffleTasks, StatusFilter
from tests.support.running_server import RunningServer, create_home

QUESTIONS = (
    ("ada", "whoami"),
    ("ada", "today"),
    ("ada", "user list"),
    ("ada", "user show kesha"),
    ("ada", "user show nobody"),
    ("kesha", "user list"),
    ("kesha", "tasks list"),
    ("kesha", "tasks list --all --limit 2 --offset 1"),
    ("kesha", "tasks list --all --search cage"),
    ("kesha", "tasks list --limit 0"),
    ("kesha", "tasks list --limit 99999999999999999999"),
    ("kesha", "tasks fairness"),
    ("kesha", "tasks verify no-such-shuffle"),
    ("kesha", "tasks export"),
    ("kesha", "tasks shuffle --yes"),
    ("kesha", "tasks import no-such-file"),
    ("kesha", "task show 1"),
    ("kesha", "task show 99"),
    ("kesha", "task show 0"),
    ("kesha", "task show -1"),
    ("kesha", "task show 99999999999999999999"),
    ("kesha", "task complete 0"),
    ("kesha", "task complete 99"),
    ("kesha", "task complete 99999999999999999999"),
    ("kesha", "task add "),
    ("kesha", "task add [oops]"),
    ("kesha", "balance"),
    ("asya", "balance kesha"),
    ("kesha", "balance asya"),
    ("asya", "balance kesha --as-of yesterday"),
    ("asya", "balance kesha --as-of 2030-01-01T00:00:00Z"),
    ("asya", "balance kesha --as-of noon"),
    ("kesha", "statement"),
    ("asya", "statement kesha --from today --to today"),
    ("asya", "income"),
    ("asya", "income --from 2020-01-01 --to 2020-01-02"),
    ("asya", "close-day --date 2999-01-01"),
    ("asya", "close-day --date today --dry-run"),
    ("asya", "mail list"),
    ("asya", "mail show no-such-mail"),
    ("asya", "ledger export --format csv"),
    ("ada", "analytics"),
    ("ada", "analytics --date yesterday"),
    ("kesha", "explain balance"),
    ("asya", "explain income"),
    ("kesha", "explain task 1"),
    ("ada", "events list --limit 3"),
    ("ada", "events list --type task_assigned --after 4"),
    ("ada", "events show no-such-event"),
    ("ada", "events status"),
    ("ada", "events dead"),
    ("ada", "events retry 5"),
    ("ada", "events replay --verify"),
    ("ada", "events trace 1"),
    ("ada", "events schemas"),
    ("ada", "token keys"),
    ("ada", "token issue kesha --ttl 999999d"),
    ("ada", "token revoke no-such-token"),
    ("ada", "ledger correct no-such-entry --reason why"),
    ("ada", "permissions"),
    ("", "permissions"),
    ("", "whoami"),
    ("", "task add x"),
    ("nonsense", "whoami"),
)


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path, dict[str, str]]]:
    """A served home and an equal one that is not served, and the tokens of their users."""
    root = tmp_path_factory.mktemp("same")
    company = create_home(root / "served")
    tokens = {**company.tokens, "nonsense": "polly.wants.crackers"}
    backend = LocalBackend(Home(root / "served"))
    for title in ("Feed the cage", "[POPUG-7] Wipe the glass", "Mend “the” <b>swing</b>"):
        backend.perform(AddTask(title=title), tokens["ada"])
    backend.perform(ShuffleTasks(), tokens["mango"])
    assignee = backend.perform(ExportTasks(), tokens["ada"]).tasks[0].assignee
    backend.perform(CompleteTask(number=1), tokens[assignee])
    backend.perform(CloseDay(), tokens["asya"])
    backend.close()
    shutil.copytree(root / "served", root / "alone")
    with RunningServer(root / "served"):
        yield root / "served", root / "alone", tokens


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "words"])
@pytest.mark.parametrize(("who", "line"), QUESTIONS)
def test_command_prints_the_same_locally_and_remotely(
    homes: tuple[Path, Path, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    who: str,
    line: str,
    as_json: bool,
) -> None:
    served, alone, tokens = homes
    arguments = [*line.split(" "), *(["--json"] if as_json else [])]
    monkeypatch.setenv("POPUG_TOKEN", tokens[who]) if who else monkeypatch.delenv("POPUG_TOKEN", raising=False)
    monkeypatch.setenv("POPUG_HOME", str(alone))
    monkeypatch.setenv("POPUG_SESSION", str(served.parent / "alone.json"))
    here = run(arguments), *capsys.readouterr()
    monkeypatch.setenv("POPUG_HOME", str(served))
    monkeypatch.setenv("POPUG_SESSION", str(served.parent / "served.json"))
    monkeypatch.setattr(LocalBackend, "perform", never)
    there = run(arguments), *capsys.readouterr()
    assert there == here
    assert "Traceback" not in here[2]


def never(backend: LocalBackend, message: Message[Any], *rest: Any) -> None:
    raise AssertionError(f"{message} was performed in the home itself")


@pytest.fixture(autouse=True)
def _mask_again() -> Iterator[None]:
    mask = os.umask(0)
    os.umask(mask)
    yield
    os.umask(mask)


# --- lost answers --------------------------------------------------------------------------------


class Relay:
    """A relay between client and server that loses the first answers after the server has done its work."""

    def __init__(self, path: Path, server: Path, *, loses: int) -> None:
        self.path, self.server, self.lost, self.loses = path, server, 0, loses
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(8)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                with client:
                    self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self.server))
            server.sendall(client.recv(65536))
            answer = whole_answer(server)
        if self.lost < self.loses:
            self.lost += 1
        else:
            client.sendall(answer)


def whole_answer(server: socket.socket) -> bytes:
    with server.makefile("rb") as stream:
        lines = [line for line in iter(stream.readline, b"\r\n") if line]
        (length,) = (int(line.split()[1]) for line in lines if line.lower().startswith(b"content-length:"))
        return b"".join([*lines, b"\r\n", stream.read(length)])


def test_command_with_lost_answer_takes_effect_once(homes: tuple[Path, Path, dict[str, str]]) -> None:
    served, _, tokens = homes
    asking = RemoteBackend(parse(f"unix://{served}/popug.sock"))
    before = asking.perform(ListTasks(status=StatusFilter.ALL), tokens["ada"]).total
    with Relay(served.parent / "relay.sock", served / "popug.sock", loses=2) as relay:
        added = RemoteBackend(parse(f"unix://{relay.path}")).perform(AddTask(title="Once and only once"), tokens["ada"])
        assert relay.lost == 2
    found = asking.perform(ListTasks(status=StatusFilter.ALL, search="only once"), tokens["ada"])
    assert [task.task_id for task in found.tasks] == [added.task_id]
    assert asking.perform(ListTasks(status=StatusFilter.ALL), tokens["ada"]).total == before + 1


def test_command_with_lost_answer_is_in_doubt_and_was_done(homes: tuple[Path, Path, dict[str, str]]) -> None:
    served, _, tokens = homes
    with Relay(served.parent / "lossy.sock", served / "popug.sock", loses=9) as relay:
        with pytest.raises(Unavailable) as caught:
            RemoteBackend(parse(f"unix://{relay.path}")).perform(AddTask(title="Was it done"), tokens["ada"])
        assert caught.value.code == "in_doubt"
        assert relay.lost == 3
    asking = RemoteBackend(parse(f"unix://{served}/popug.sock"))
    assert asking.perform(ListTasks(status=StatusFilter.ALL, search="Was it done"), tokens["ada"]).total == 1


def test_events_are_followed_as_they_happen(homes: tuple[Path, Path, dict[str, str]]) -> None:
    served, _, tokens = homes
    backend = RemoteBackend(parse(f"unix://{served}/popug.sock"))
    last = backend.perform(ShowBusStatus(), tokens["ada"]).last_sequence
    followed = backend.follow(ListEvents(type="task_created", after=last), tokens["ada"])
    adding = threading.Timer(0.3, lambda: RemoteBackend(backend.address).perform(AddTask(title="News"), tokens["ada"]))
    adding.start()
    (event,) = next(followed)
    adding.join()
    shown = backend.perform(ListEvents(type="task_created", after=last), tokens["ada"])
    assert [event] == shown.events
    with pytest.raises(NotAllowed):
        next(backend.follow(ListEvents(), tokens["kesha"]))
    with pytest.raises(NotAuthenticated):
        next(backend.follow(ListEvents(), None))
