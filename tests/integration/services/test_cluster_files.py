"""The files of `.github/cluster/` fit what popug demands of topics, brokers and commands."""

from pathlib import Path
from typing import Any

import pytest

from popug_cli.cli.help.surface import surface
from popug_cli.kernel.settings import SETTINGS
from popug_cli.messages.services import SERVICES
from popug_cli.messages.topics import FIXED_SETTINGS, MIN_IN_SYNC, REPLICATION_FACTOR
from tests.cluster.brokers import SETTINGS as SMALL_SETTINGS

yaml = pytest.importorskip("yaml")

FOLDER = Path(__file__).parents[3] / ".github" / "cluster"
BROKERS = ["kafka-1", "kafka-2", "kafka-3"]


@pytest.fixture
def compose() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))


def properties(name: str) -> dict[str, str]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {key: value for key, _, value in pairs}


def test_small_broker_settings_are_those_of_the_tests() -> None:
    assert properties("broker-small.properties") == SMALL_SETTINGS


def test_broker_settings_keep_what_a_topic_promises() -> None:
    settings = properties("broker.properties")
    assert settings["default.replication.factor"] == str(REPLICATION_FACTOR)
    assert settings["min.insync.replicas"] == str(MIN_IN_SYNC)
    assert settings["auto.create.topics.enable"] == "false"
    for key in FIXED_SETTINGS.keys() & settings.keys():
        assert settings[key] == FIXED_SETTINGS[key]


def test_compose_serves_each_service_once_and_a_gateway(compose: Any) -> None:
    served = [service["command"] for service in compose["services"].values() if "serve" in service.get("command", [])]
    modules = [line[line.index("--module") + 1] for line in served if "--module" in line]
    assert modules == list(SERVICES)
    assert next(line for line in served if "--gateway" in line)[:3] == ["popug", "serve", "--gateway"]
    options = {word for line in served for word in line if word.startswith("--")}
    assert options <= {name for option in surface().commands["serve"].takes for name in option.names}


def test_compose_names_three_brokers_with_ids_of_their_own(compose: Any) -> None:
    services = compose["services"]
    assert [name for name in services if name.startswith("kafka")] == BROKERS
    assert {services[name]["environment"]["KAFKA_NODE_ID"] for name in BROKERS} == {1, 2, 3}
    brokers = services["tasks"]["environment"]["POPUG_BROKERS"]
    assert brokers == ",".join(f"{name}:9092" for name in BROKERS)


def test_compose_sets_known_settings_and_no_secret(compose: Any) -> None:
    known = {setting.variable for setting in SETTINGS.values()} | {"POPUG_HOME"}
    for service in compose["services"].values():
        variables = service.get("environment", {})
        assert {name for name in variables if name.startswith("POPUG_")} <= known
        assert not any("password" in str(value).lower() and not str(value).startswith("/run/secrets/")
                       for value in variables.values())  # fmt: skip
    assert all(list(secret) == ["environment"] for secret in compose["secrets"].values())


def test_compose_mounts_files_that_exist(compose: Any) -> None:
    mounted = {
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    }
    assert len(mounted) == 3
    assert all((FOLDER / name).is_file() for name in mounted)
