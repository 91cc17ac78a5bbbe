"""The servers of a chaos run: brokers, databases, eight processes of popug, and the network between them."""

import os
import random
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from popug_cli.app.local_backend import LocalBackend
from popug_cli.cluster.places import with_database
from popug_cli.kernel.home import Home
from popug_cli.messages.services import SERVICES
from tests.cluster.brokers import Broker, Brokers
from tests.cluster.chaos.bugs import ChaosBug
from tests.cluster.chaos.clock import ShiftedClock
from tests.cluster.chaos.databases import Databases
from tests.cluster.chaos.proxy import CuttableProxy
from tests.cluster.running_cluster import GATEWAY, RunningCluster, ServerProcess
from tests.simulation.bugs import PROGRAM as SOURCE
from tests.simulation.bugs import plant
from tests.support.postgres.server import HOST

ROOT = Path(__file__).parents[3]
SETPRIV = shutil.which("setpriv")
ENDS_WITH_PARENT = (SETPRIV, "--pdeathsig=KILL", "--") if SETPRIV else ()
RUN = (*ENDS_WITH_PARENT, sys.executable, "-P", "-m", "tests.cluster.chaos.program")
PREFIX = "popug"
ADMIN, PASSWORD = "ada", "seven-cages-under-9-moons"
SECOND = {"tasks-2": "tasks", "billing-2": "billing"}  # the services that have two processes
SOUND = ChaosBug("the sound program")


class ProxiedBrokers(Brokers):
    """Brokers that clients and other brokers reach through proxies."""

    def __init__(self) -> None:
        super().__init__()
        self.proxies: dict[int, CuttableProxy] = {}

    def _make_broker(self, folder: Path, number: int, ports: dict[str, int]) -> Broker:
        broker = super()._make_broker(folder, number, ports)
        self.proxies[number] = CuttableProxy(lambda: [ports["plaintext"]])
        broker.advertised_ports["plaintext"] = self.proxies[number].port
        return broker


class Stage:
    """All servers of one cluster, in a folder."""

    def __init__(self, folder: Path, stack: ExitStack, bug: ChaosBug = SOUND) -> None:
        self.folder, self.bug = folder, bug
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = ShiftedClock(folder / "clock")
        self.clock.set(0)
        self.jumps: dict[str, ShiftedClock] = {}  # how far the clock of each process is off
        self.brokers = stack.enter_context(ProxiedBrokers())
        self.databases = Databases(stack, is_synchronous=not bug.is_asynchronous)
        self.database_proxies = {name: self._proxies_of_databases(stack) for name in SECOND}
        self.routes = {name: stack.enter_context(CuttableProxy(partial(self._ports, name))) for name in SERVICES}
        self.gateway_port = _free_port()
        self.cluster = RunningCluster(
            folder / "services", self.brokers.address(), database=self.databases.url(), prefix=PREFIX
        )
        self.cluster.environment |= self._own_environment()
        self._found_company()
        self.cluster.processes = self.processes = self._processes()
        stack.callback(self.cluster.close)
        self.cluster.start()

    @property
    def url(self) -> str:
        """Return the address of the gateway."""
        return f"http://{HOST}:{self.gateway_port}"

    def processes_of(self, service: str) -> list[ServerProcess]:
        """Return the processes of a service."""
        return [each for name, each in self.processes.items() if SECOND.get(name, name) == service]

    def leader_of(self, service: str) -> str:
        """Return the name of the process that leads a service, by its log; the first one if none does."""
        for name, process in self.processes.items():
            text = process.log_text() if SECOND.get(name, name) == service else ""
            if text.rfind("is the leader of") > text.rfind("is not the leader of") and process.is_running:
                return name
        return service

    @contextmanager
    def backend(self, service: str) -> Iterator[LocalBackend]:
        """Yield a backend on a service's database, in this process."""
        url = with_database(self.databases.url(), f"{PREFIX}_{service}")
        home = Home(self.cluster.homes / service)
        with closing(LocalBackend(home, clock=self.clock, database_url=url)) as backend:
            yield backend

    def _own_environment(self) -> dict[str, str]:
        ShiftedClock(self.folder / "no-jump").set(0)
        copy = self.folder / "program"
        if self.bug.changes:
            shutil.copytree(SOURCE, copy / "popug_cli", ignore=shutil.ignore_patterns("__pycache__"))
            for change in self.bug.changes:
                plant(copy / "popug_cli" / change.file, change)
        return {
            "CHAOS_CLOCK": str(self.folder / "clock"),
            "CHAOS_JUMP": str(self.folder / "no-jump"),
            "CHAOS_DATABASE": self.databases.url(),
            "PYTHONPATH": os.pathsep.join([*([str(copy)] if self.bug.changes else []), str(ROOT)]),
            "POPUG_SERVICES": ",".join(f"{name}=http://{HOST}:{route.port}" for name, route in self.routes.items()),
        }

    def _found_company(self) -> None:
        home = str(self.folder / "company")
        self.cluster.homes.mkdir(parents=True, exist_ok=True)
        environment = {key: text for key, text in self.cluster.environment.items() if key != "POPUG_DATABASE"}
        words = ("--admin", ADMIN, "--email", "ada@popug.example", "--time-zone", "UTC", "--password-stdin")
        self.cluster.operate("init", "--home", home, *words, text=f"{PASSWORD}\n", environment=environment)
        shutil.copytree(home, self.folder / "before")
        self.cluster.operate("cluster", "init", "--from", home)

    def _processes(self) -> dict[str, ServerProcess]:
        listen = ("--listen", f"{HOST}:0")
        found = {name: self._process(name, self.cluster.environment, "--module", name, *listen) for name in SERVICES}
        for name, service in SECOND.items():
            homes = self.folder / "second"
            (homes / service).mkdir(parents=True)
            ports = tuple(proxy.port for proxy in self.database_proxies[name])
            own = {"POPUG_CLUSTER_HOMES": str(homes), "CHAOS_DATABASE": self.databases.url(ports)}
            found[name] = self._process(name, self.cluster.environment | own, "--module", service, *listen)
        gateway = ("--gateway", "--listen", f"{HOST}:{self.gateway_port}")
        return found | {GATEWAY: self._process(GATEWAY, self.cluster.environment, *gateway)}

    def _process(self, name: str, environment: dict[str, str], *options: str) -> ServerProcess:
        self.jumps[name] = ShiftedClock(self.folder / f"jump-{name}")
        self.jumps[name].set(0)
        own = environment | {"CHAOS_JUMP": str(self.folder / f"jump-{name}")}
        return ServerProcess(name, options, own, self.folder / f"{name}.log", RUN)

    def _proxies_of_databases(self, stack: ExitStack) -> list[CuttableProxy]:
        return [stack.enter_context(CuttableProxy(partial(_one, port))) for port in self.databases.ports]

    def _ports(self, service: str) -> list[int]:
        """Return the ports of a service's processes that run."""
        urls = [url for process in self.processes_of(service) if process.is_running for url in process.urls]
        return [int(url.rpartition(":")[2]) for url in urls if url.startswith("http")]


def _one(port: int) -> list[int]:
    return [port]


def _free_port() -> int:
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
