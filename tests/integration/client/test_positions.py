"""Each answer of a server carries positions, which the client keeps and sends."""

from pathlib import Path

from popug_cli.client.address import Address
from popug_cli.client.remote_backend import RemoteBackend
from popug_cli.kernel.positions import parse
from popug_cli.messages.bus import ListEvents
from popug_cli.messages.tasks import AddTask, ListTasks
from tests.support.running_server import RunningServer, create_home


def test_answers_of_commands_and_queries_carry_the_position(tmp_path: Path) -> None:
    company = create_home(tmp_path / "home")
    with RunningServer(tmp_path / "home") as server:
        remote = RemoteBackend(Address(path=str(server.socket)))
        remote.perform(AddTask(title="Feed the cage"), company.tokens["mango"])
        after_command = remote.positions.read()["company"]
        last = int(remote.perform(ListEvents(limit=1000), company.tokens["ada"]).events[-1]["sequence"])
        assert after_command.number == last
        remote.perform(ListTasks(), company.tokens["mango"])
        assert remote.positions.read()["company"] == after_command


def test_position_is_sent_back_and_ignored_without_a_replica(tmp_path: Path) -> None:
    company = create_home(tmp_path / "home")
    with RunningServer(tmp_path / "home") as server:
        token = company.tokens["mango"]
        answer = server.post("tasks/list_tasks", {}, token)
        own = parse(answer.headers["popug-position"])["company"]
        for position in (f"company={own.number + 100}.{own.log_id}", "company=1.0", "\xff", "x" * 5_000, ""):
            again = server.post("tasks/list_tasks", {}, token, Popug_Position=position)
            assert again.status == 200, position
            assert "popug-warnings" not in again.headers
            assert parse(again.headers["popug-position"])["company"] == own
