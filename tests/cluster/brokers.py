"""Three Kafka brokers on loopback, each with a controller in it (KRaft, static quorum), with small settings.

They have short time-outs and small heaps: settings for tests, not for use. There are three listeners. ``PLAINTEXT`` has
no login, and its user may do everything. ``SASL_PLAINTEXT`` and, with TLS, ``SASL_SSL`` demand the login of
``USERNAME``, which may do everything until an ACL says otherwise.
"""

import base64
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from tests.cluster.kafka_programs import class_path
from tests.support.certificates import self_signed
from tests.support.postgres.server import REMOVE_AFTER_END

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)  # below the ports that clients get
BROKERS = 3
LISTENERS = ("plaintext", "sasl", "tls", "controller")
TLS_HOST = "localhost"  # in the certificate
USERNAME = "popug"
START_SECONDS = 120
END_SECONDS = 30
START_ATTEMPTS = 3
POLL_SECONDS = 0.1
SMALL_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
BROKER_JVM = ("-Xms192m", "-Xmx320m", *SMALL_JVM)
TOOL_JVM = ("-Xmx64m", *SMALL_JVM)
SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": (
        "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT"
    ),
    "ssl.keystore.type": "PEM",
    "inter.broker.listener.name": "PLAINTEXT",
    "sasl.enabled.mechanisms": "PLAIN",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "allow.everyone.if.no.acl.found": "true",
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.num.partitions": "3",
    "transaction.state.log.min.isr": "2",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "num.partitions": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "1",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "400",
    "replica.lag.time.max.ms": "3000",
    "log.cleaner.enable": "false",
    "log.segment.bytes": "16777216",
}
LOGGING = """\
Configuration:
  Appenders:
    File:
      name: F
      fileName: {folder}/broker.log
      PatternLayout: {{pattern: "[%d] %p %m (%c)%n"}}
  Loggers:
    Root:
      level: WARN
      AppenderRef: {{ref: F}}
"""


class Broker:
    """One broker with a folder of its own; its process ends with the thread that started it."""

    def __init__(self, folder: Path, number: int, ports: dict[str, int]) -> None:
        self.folder, self.number, self.ports = folder, number, ports
        self.advertised_ports = dict(ports)
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self, voters: str, password: str, certificate: Path) -> None:
        """Write the files of its settings."""
        self.folder.mkdir(parents=True, exist_ok=True)
        listens = _listeners(self.ports, HOST)
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        login = f'{module} required user_{USERNAME}="{password}";'
        settings = {
            **SETTINGS,
            "node.id": str(self.number),
            "controller.quorum.voters": voters,
            "listeners": f"{listens},CONTROLLER://{HOST}:{self.ports['controller']}",
            "advertised.listeners": _listeners(self.advertised_ports, TLS_HOST),
            "log.dirs": str(self.folder / "data"),
            **{f"listener.name.{name}.plain.sasl.jaas.config": login for name in ("sasl_plaintext", "sasl_ssl")},
            "ssl.keystore.location": str(certificate),
        }
        self._settings.touch(mode=0o600)
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (self.folder / "log4j2.yaml").write_text(LOGGING.format(folder=self.folder))

    def format(self, cluster_id: str) -> subprocess.Popen[bytes]:
        """Begin to format its data folder."""
        return self._java(
            TOOL_JVM, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", str(self._settings)
        )

    def start(self) -> None:
        """Start its process, without waiting until it is up."""
        self.process = self._java(BROKER_JVM, "kafka.Kafka", str(self._settings))

    @property
    def is_running(self) -> bool:
        """Return whether its process is alive."""
        return self.process is not None and self.process.poll() is None

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send a signal that ends its process, and wait; kill it if it does not end."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(END_SECONDS)

    def problem(self) -> str:
        """Return the end of what the broker wrote."""
        texts = [(self.folder / name).read_text(errors="replace") for name in ("out", "broker.log") if self._has(name)]
        return "\n".join(text[-2000:] for text in texts)

    @property
    def _settings(self) -> Path:
        return self.folder / "server.properties"

    def _has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def _java(self, options: tuple[str, ...], *line: str) -> subprocess.Popen[bytes]:
        setpriv = shutil.which("setpriv")
        ends_with_parent = [setpriv, "--pdeathsig=KILL", "--"] if setpriv else []
        logs = (f"-Dlog4j2.configurationFile={self.folder}/log4j2.yaml", f"-Dkafka.logs.dir={self.folder}")
        with (self.folder / "out").open("ab") as out:
            return subprocess.Popen(
                [*ends_with_parent, "java", *options, *logs, "-cp", class_path(), *line],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # Ctrl-C of a terminal is for pytest, which then stops the brokers
                cwd="/",
            )


class Brokers:
    """Three brokers of one cluster, in a folder that is removed when this process ends."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="popug-kafka-"))
        self._remover = subprocess.Popen(
            ["sh", "-c", REMOVE_AFTER_END, str(self.folder)], stdin=subprocess.PIPE, start_new_session=True
        )
        self.password = secrets.token_urlsafe(24)
        self.certificate = self_signed(self.folder / "certificate.pem")
        self.brokers: list[Broker] = []

    def start(self) -> Self:
        """Start all brokers on free ports, and wait until all are registered."""
        try:
            for attempt in range(1, START_ATTEMPTS + 1):
                self._create()
                if self._are_up():
                    break
                problem = "\n".join(broker.problem() for broker in self.brokers)
                if attempt == START_ATTEMPTS:
                    raise AssertionError(f"the Kafka brokers of the tests did not start:\n{problem}")
                self._end()  # another process may have taken a port
        except BaseException:
            self.remove()
            raise
        return self

    def address(self, listener: str = "plaintext") -> str:
        """Return the addresses of a listener of all brokers, joined by commas."""
        host = TLS_HOST if listener == "tls" else HOST
        return ",".join(f"{host}:{broker.advertised_ports[listener]}" for broker in self.brokers)

    def remove(self) -> None:
        """Kill the brokers and delete their folder."""
        self._end()
        self._remover.communicate()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _create(self) -> None:
        """Make the folders of brokers on new ports, format them, and start the processes."""
        ports = _free_ports(BROKERS * len(LISTENERS))
        self.brokers = []
        for number in range(1, BROKERS + 1):
            folder = self.folder / f"{ports[0]}-{number}"
            own = dict(zip(LISTENERS, ports[(number - 1) * len(LISTENERS) :], strict=False))
            self.brokers.append(self._make_broker(folder, number, own))
        voters = ",".join(f"{broker.number}@{HOST}:{broker.ports['controller']}" for broker in self.brokers)
        for broker in self.brokers:
            broker.configure(voters, self.password, self.certificate)
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        formats = [broker.format(cluster_id) for broker in self.brokers]
        for broker, process in zip(self.brokers, formats, strict=True):
            assert process.wait(START_SECONDS) == 0, broker.problem()
        for broker in self.brokers:
            broker.start()

    def _make_broker(self, folder: Path, number: int, ports: dict[str, int]) -> Broker:
        return Broker(folder, number, ports)

    def _are_up(self) -> bool:
        """Wait until all brokers are registered; return False if one has ended."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and all(broker.is_running for broker in self.brokers):
            if registered(self.address()) == BROKERS:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _end(self) -> None:
        for broker in self.brokers:
            broker.end()


def _listeners(ports: dict[str, int], tls_host: str) -> str:
    """Return the listeners for clients, as Kafka writes them."""
    return (
        f"PLAINTEXT://{HOST}:{ports['plaintext']},SASL_PLAINTEXT://{HOST}:{ports['sasl']}"
        f",SASL_SSL://{tls_host}:{ports['tls']}"
    )


def registered(address: str) -> int:
    """Return how many brokers are registered, by what a broker at an address says; 0 if none answers."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": address, "log_level": 0, "socket.connection.setup.timeout.ms": 2000})
    with suppress(KafkaException):
        return len(client.list_topics(timeout=2).brokers)
    return 0


def _free_ports(count: int) -> list[int]:
    with ExitStack() as probes:
        ports: list[int] = []
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            probe = probes.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind((HOST, port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError(f"fewer than {count} ports between {PORTS[0]} and {PORTS[-1]} are free")


def is_process_alive(pid: int) -> bool:
    """Return whether a process exists; the supervisor reaps those of brokers that have ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
