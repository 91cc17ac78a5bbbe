"""The cluster of a company under test, so that all its commands go to the gateway."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from popug_cli.app import LocalBackend
from popug_cli.bus.service.coverage import ReceivedLog, received_logs
from popug_cli.cluster.initialise import Options, initialise
from popug_cli.cluster.places import Places
from popug_cli.kernel.home import Home
from popug_cli.kernel.settings import SETTINGS
from popug_cli.messages.principal import ANONYMOUS
from tests.support.cluster.served_cluster import ServedCluster

SETTLE_SECONDS = 180.0
POLL_SECONDS = 0.05
OFFSET_VARIABLE = "ACCEPTANCE_CLOCK_OFFSET_SECONDS"


class OffsetClock:
    """A clock that is ahead of the machine's."""

    def __init__(self, offset: timedelta) -> None:
        self._offset = offset

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset


class ClusterResidence:
    """At most one cluster, made of the company in a home; its processes start again when their environment changes.

    A company that is a template stays in its home, so that each copy becomes a cluster of its own.
    """

    def __init__(self, home: Path, folder: Path, session: Path, *, is_template: bool) -> None:
        self._home = Home(home)
        self._session = session
        self._cluster = ServedCluster(folder, None)
        self._environment: Mapping[str, str] = {}
        self._is_template = is_template

    @property
    def is_cluster(self) -> bool:
        """Whether the company has become a cluster."""
        return self._cluster.homes["tasks"].database.is_file()

    @property
    def variables(self) -> dict[str, str]:
        """The variables with which a client finds the gateway."""
        return {"POPUG_SERVER": f"unix://{self._cluster.socket}"} if self.is_cluster else {}

    @property
    def homes(self) -> Mapping[str, Home]:
        """The homes of the services, by name."""
        return self._cluster.homes

    def database_of(self, module: str) -> Path:
        """Return the file with the tables of a module."""
        return (self.homes[module] if self.is_cluster else self._home).database

    @property
    def is_there(self) -> bool:
        """Whether the processes were started."""
        return bool(self._cluster.pids)

    def ensure(self, program: Sequence[str], environment: Mapping[str, str]) -> None:
        """Have the cluster run in this environment; make it of the company if there is one."""
        environment = {name: text for name, text in environment.items() if name not in self.variables}
        if self.is_there and environment == self._environment:
            return
        if self._is_template or not self._home.database.is_file():
            return
        if self.is_there:
            self.settle()  # the effects of a day are known on that day
        self.end()
        offset = timedelta(seconds=float(environment.get(OFFSET_VARIABLE, 0)))
        if not self.is_cluster:
            self._become_cluster(offset)
        self._environment = environment
        settings = {setting.variable for setting in SETTINGS.values()} | {"HOME", "PATH", "LANG"}
        self._cluster.environment = {
            name: text for name, text in environment.items() if name in settings or name.startswith("COVERAGE_")
        }
        self._cluster.clock_offset_seconds = offset.total_seconds()
        self._cluster.start()

    def settle(self) -> None:
        """Wait until each service has consumed what the others have published."""
        with ExitStack() as stack:
            backends = {
                service: stack.enter_context(closing(LocalBackend(home))) for service, home in self.homes.items()
            }
            until = time.monotonic() + SETTLE_SECONDS
            while not (_are_settled(backends) and _are_settled(backends)):  # one reads the services one after another
                assert time.monotonic() < until, self._cluster.log.read_text()
                time.sleep(POLL_SECONDS)

    def end(self) -> None:
        """Kill the processes, which they survive."""
        self._cluster.kill(*self._cluster.pids)

    def _become_cluster(self, offset: timedelta) -> None:
        places = Places(homes=self._cluster.folder, database="", brokers="", prefix="popug")
        with closing(LocalBackend(self._home, clock=OffsetClock(offset), from_file=True)) as company:
            initialise(company, places, Options(abandon_hooks=True), prepare_topics=lambda: None)
        with suppress(OSError, ValueError):  # there is no session, or a test has spoilt it
            sessions = json.loads(self._session.read_text())
            if token := sessions.get(str(self._home.root)):
                sessions[self.variables["POPUG_SERVER"]] = token
                self._session.write_text(json.dumps(sessions))


def _are_settled(backends: Mapping[str, LocalBackend]) -> bool:
    """Return whether the consumers of each service have consumed the logs that it receives up to their ends."""
    ends, consumed = dict[str, int](), dict[str, Mapping[str, ReceivedLog]]()
    for service, backend in backends.items():
        with backend.runtime.reading(ANONYMOUS) as context:
            consumed[service] = received_logs(context, service, backend.consumers)
            ends[service] = context.position
    return all(log.consumed >= ends[origin] for logs in consumed.values() for origin, log in logs.items())
