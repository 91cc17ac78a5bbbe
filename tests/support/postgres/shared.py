"""One PostgreSQL server for several test processes: the first to ask starts it, and it ends with the last of them.

Each process holds a shared lock on a file (flock) as long as it lives. A supervisor process of its own waits for the
exclusive lock, which the kernel gives to it as soon as all of them have ended, killed ones included. Then it removes
the server. If the supervisor is killed, the kernel stops the server (prctl, PR_SET_PDEATHSIG).

python -m tests.support.postgres.shared FOLDER     the supervisor
"""

import fcntl
import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

from tests.support.postgres.server import PostgresServer

ROOT = Path(__file__).parents[3]
_held: dict[Path, IO[str]] = {}  # a file that is closed loses its lock


def shared_server(folder: Path) -> PostgresServer:
    """Return the server of a folder, which runs until the last process that called this has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "start.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder not in _held:
            _held[folder] = (folder / "users.lock").open("a")
            fcntl.flock(_held[folder], fcntl.LOCK_SH)  # waits while a server of earlier processes is removed
        if not _address(folder).exists():
            _start_supervisor(folder)
    address = json.loads(_address(folder).read_text())
    server = PostgresServer(Path(address["folder"]), address["password"])
    server.port = address["port"]
    return server


def _address(folder: Path) -> Path:
    return folder / "address.json"


def _start_supervisor(folder: Path) -> None:
    log = folder / "supervisor.log"
    with log.open("w") as errors:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(folder)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C of a terminal does not reach it
        )
    assert supervisor.stdout is not None
    with supervisor.stdout as said:
        started = said.readline()
    if not started:
        raise AssertionError(f"the PostgreSQL server of the tests did not start:\n{log.read_text()}")
    supervisor.returncode = 0  # nobody waits for it: it ends after this process


def _supervise(folder: Path) -> None:
    """Run a server until no process holds the shared lock."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    server = PostgresServer.create()
    try:
        server.start()
        document = {"folder": str(server.folder), "port": server.port, "password": server.password}
        part = folder / "address.part"
        part.touch(mode=0o600)
        part.write_text(json.dumps(document))
        part.replace(_address(folder))
        sys.stdout.write("started\n")
        sys.stdout.flush()
        with (folder / "users.lock").open("a") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
            _address(folder).unlink()
            server.remove()
    finally:
        with suppress(FileNotFoundError):
            _address(folder).unlink()
        server.remove()


def _stop(*_: object) -> NoReturn:
    raise SystemExit(0)


if __name__ == "__main__":
    _supervise(Path(sys.argv[1]))
