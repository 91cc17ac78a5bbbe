"""A PostgreSQL server on loopback, its databases, and a standby of it."""

import os
import random
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.support.postgres.programs import account, as_account, program

if TYPE_CHECKING:
    import psycopg

HOST = "127.0.0.1"
PORTS = range(20_000, 32_000)  # below the ports that clients get: a client could connect to itself
START_SECONDS = 60
END_SECONDS = 60
SUPERUSER, OWNER = "superuser", "popug"
LOCALE = ("--locale=C", "--locale-provider=icu", "--icu-locale=en")  # order by letters shows where bytes were meant
SETTINGS = {
    "fsync": "off",  # the tests kill processes, but do not cut the power
    "full_page_writes": "off",
    "listen_addresses": f"'{HOST}'",
    "unix_socket_directories": "''",
    "max_connections": "200",
    "max_wal_senders": "5",
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",
    "wal_retrieve_retry_interval": "'100ms'",  # a standby whose primary is gone is promoted after this time
    "log_checkpoints": "off",
    "log_line_prefix": "'%m %p %d %u '",
    "lc_messages": "'C'",
}
ACCESS = (
    "host all superuser 127.0.0.1/32 scram-sha-256\n"
    "host replication superuser 127.0.0.1/32 scram-sha-256\n"
    "host all all 127.0.0.1/32 trust\n"
)


REMOVE_AFTER_END = 'cat; until rm -rf "$0" 2>/dev/null; do sleep 0.1; done'


class PostgresServer:
    """A server with a data folder of its own; its processes end with the thread that started it.

    If the process that created it is killed, nothing is left either: the kernel stops the server (prctl,
    PR_SET_PDEATHSIG), and a shell whose input ends then removes the folder.

    The superuser has a random password. ``OWNER`` may not do more than own its databases, and needs no password, nor do
    roles that a test creates.
    """

    def __init__(self, folder: Path, password: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.port = 0
        self.password = password
        self.process: subprocess.Popen[bytes] | None = None
        self._remover: subprocess.Popen[bytes] | None = None

    # --- life ---------------------------------------------------------------------------------

    @classmethod
    def create(cls, settings: Mapping[str, str] | None = None) -> Self:
        """Make the data folder of a server; it is not started."""
        server = cls(_make_folder(), secrets.token_urlsafe(24))
        server._let_remove()
        secret = server.folder / "password"
        secret.write_text(server.password)
        secret.chmod(0o644)  # in a folder that only this account and PostgreSQL's can enter
        try:
            server._run(
                "initdb", f"--pgdata={server.data}", f"--username={SUPERUSER}", f"--pwfile={secret}", "--no-sync",
                "--encoding=UTF8", "--auth=scram-sha-256", "--no-instructions", *LOCALE,
            )  # fmt: skip
            server.configure({**SETTINGS, **(settings or {})})
            (server.data / "pg_hba.conf").write_text(ACCESS)
        except BaseException:
            server.remove()
            raise
        finally:
            secret.unlink(missing_ok=True)
        return server

    def configure(self, settings: Mapping[str, str]) -> None:
        """Add settings to the server's file; a running server takes them with ``reload``."""
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())

    def start(self) -> Self:
        """Start the server, on the port it had before or on a free one, and wait until it takes connections."""
        attempts = 1 if self.port else 5
        for attempt in range(1, attempts + 1):
            self.port = self.port or _free_port()
            if self._started():
                return self
            if attempt == attempts:
                raise AssertionError(self.log.read_text(errors="replace"))
            self.port = 0  # another process may have taken it
        return self

    def _started(self) -> bool:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                as_account(program("postgres"), "-D", str(self.data), "-p", str(self.port)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C of a terminal is for pytest, which then stops the server
                cwd="/",
            )
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None:
            if self._run("pg_isready", "-q", f"--host={HOST}", f"--port={self.port}", check=False) == 0:
                return True
            assert time.monotonic() < deadline, self.log.read_text(errors="replace")
            time.sleep(0.05)
        return False

    @property
    def is_running(self) -> bool:
        """Return whether the first process of the server is alive."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Stop the server: sessions are ended, and a checkpoint is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill all processes of the server with SIGKILL, as a crash of the machine does."""
        if not self.is_running:
            return
        os.kill(self.pids()[0], signal.SIGSTOP)  # it starts no further process
        pids = self.pids()
        self.signal_all(signal.SIGKILL)
        self._end(signal.SIGKILL)
        deadline = time.monotonic() + END_SECONDS
        while any(map(_is_alive, pids)):  # the server does not start again before
            assert time.monotonic() < deadline, pids
            time.sleep(0.01)

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(END_SECONDS)

    def restart(self) -> None:
        """Stop the server and start it again on its port."""
        self.stop()
        self.start()

    def reload(self) -> None:
        """Let the running server read its settings again."""
        self.execute("SELECT pg_reload_conf()")

    def pids(self) -> list[int]:
        """Return the ids of the server's processes, the first one at the front."""
        assert self.process is not None
        first = self.process.pid
        return [first, *_children(first)]

    def signal_all(self, number: int) -> None:
        """Send a signal to every process of the server: SIGSTOP freezes it as a whole, SIGCONT lets it go on."""
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def remove(self) -> None:
        """Kill the server and delete its folder."""
        self.kill()
        if self._remover is not None:
            self._remover.communicate()

    def _let_remove(self) -> None:
        """Have the folder removed when this process ends or calls ``remove``."""
        line = ["sh", "-c", REMOVE_AFTER_END, str(self.folder)]
        self._remover = subprocess.Popen(line, stdin=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.remove()

    # --- databases ----------------------------------------------------------------------------

    def url(self, database: str, role: str = OWNER) -> str:
        """Return the URL of a database for a role, which needs no password; ``SUPERUSER`` gets its own."""
        user = f"{role}:{self.password}" if role == SUPERUSER else role
        return f"postgresql://{user}@{HOST}:{self.port}/{database}"

    @contextmanager
    def session(self, database: str = "postgres", role: str = SUPERUSER) -> "Iterator[psycopg.Connection[Any]]":
        """Yield a connection in which each statement is a transaction of its own."""
        import psycopg

        with psycopg.connect(self.url(database, role), autocommit=True) as connection:
            yield connection

    def execute(self, statement: Any, *values: Any, database: str = "postgres", role: str = SUPERUSER) -> list[Any]:
        """Run a statement in a session of its own; return its rows."""
        with self.session(database, role) as connection:
            cursor = connection.execute(statement, values or None)
            return cursor.fetchall() if cursor.description else []

    def create_role(self, role: str, rights: str = "LOGIN") -> None:
        """Create a role if it does not exist; two processes may do so at once."""
        known = self.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", role)
        import psycopg

        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            if not known:
                self.execute(f'CREATE ROLE "{role}" {rights}')

    def create_database(self, *, template: str = "template0", owner: str = OWNER, options: str = "") -> str:
        """Create a database and return its name; it begins as a copy of ``template``, to which no session may be open.

        ``options`` are further ones of CREATE DATABASE, such as ``ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc``.
        """
        import psycopg

        name = f"popug_{secrets.token_hex(6)}"
        self.create_role(owner)
        deadline = time.monotonic() + END_SECONDS
        while True:
            try:
                self.execute(f'CREATE DATABASE {name} TEMPLATE "{template}" OWNER "{owner}" {options}')
            except psycopg.errors.ObjectInUse:  # a session of the template is still ending
                assert time.monotonic() < deadline, f"{template} stays in use"
                time.sleep(0.05)
            else:
                return name

    def drop_database(self, name: str) -> None:
        """Drop a database and end its sessions."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    # --- standbys -----------------------------------------------------------------------------

    def create_standby(self, name: str) -> Self:
        """Make a streaming standby with a replication slot; ``name`` is for ``synchronous_standby_names``."""
        standby = type(self)(_make_folder(), self.password)
        standby._let_remove()
        try:
            standby._run(
                "pg_basebackup", f"--pgdata={standby.data}", "--wal-method=stream", "--checkpoint=fast", "--no-sync",
                "--create-slot", f"--slot={name}", "--write-recovery-conf",
                f"--dbname={self.url('', SUPERUSER)}?application_name={name}",
            )  # fmt: skip
            standby.configure({"cluster_name": f"'{name}'"})
        except BaseException:
            standby.remove()
            raise
        return standby

    def wait_for_standbys(self, *names: str, quorum: int = 1) -> None:
        """Let commits wait for that many of these standbys; for none without a name."""
        quoted = ", ".join(f'"{name}"' for name in names)
        self.configure({"synchronous_standby_names": f"'ANY {quorum} ({quoted})'" if names else "''"})
        self.reload()

    def promote(self) -> None:
        """Make a standby a primary, and wait until it is one."""
        assert self.execute("SELECT pg_promote(wait => true, wait_seconds => 60)") == [(True,)]

    # --- programs -----------------------------------------------------------------------------

    def _run(self, name: str, *options: str, check: bool = True) -> int:
        done = subprocess.run(as_account(program(name), *options), capture_output=True, text=True, check=False, cwd="/")
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.returncode


def _make_folder() -> Path:
    """Return a new folder that the account of PostgreSQL owns."""
    place = Path(tempfile.gettempdir())
    if account() is not None and not all(path.stat().st_mode & 0o001 for path in (place, *place.parents)):
        place = Path("/tmp")
    folder = Path(tempfile.mkdtemp(prefix="popug-postgres-", dir=place))
    if chosen := account():
        os.chown(folder, chosen.pw_uid, chosen.pw_gid)
    return folder


def _free_port() -> int:
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise AssertionError(f"no port between {PORTS[0]} and {PORTS[-1]} is free")


def _is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie (Linux)."""
    try:
        _, _, fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
    except OSError:
        return False
    return fields.split()[0] != "Z"


def _children(parent: int) -> list[int]:
    """Return the ids of a process's children (Linux)."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            _, _, fields = status.read_text(errors="replace").rpartition(")")
            if int(fields.split()[1]) == parent:
                found.append(int(status.parent.name))
    return found
