"""A PostgreSQL primary with a synchronous standby, which changes places with it at each failover."""

import signal
import time
from contextlib import ExitStack, suppress

from tests.support.postgres.server import HOST, OWNER, PostgresServer

LAG_SECONDS = 1.5


class Databases:
    """Two servers on two ports that stay the same; whichever takes writes is ``primary``.

    Without ``is_synchronous``, a planted fault, commits wait for no standby, and the standby lags before a failover.
    """

    def __init__(self, stack: ExitStack, *, is_synchronous: bool = True) -> None:
        self._stack = stack
        self._is_synchronous = is_synchronous
        self._count = 0
        self.primary = PostgresServer.create()
        stack.callback(self.primary.remove)
        self.primary.start().create_role(OWNER, "LOGIN CREATEDB")
        self._old: PostgresServer | None = None
        self.standby = self._create_standby()
        self.ports = self.primary.port, self.standby.port

    def url(self, ports: tuple[int, ...] = ()) -> str:
        """Return the URL of both servers, without a database; ``ports`` are those of proxies."""
        hosts = ",".join(f"{HOST}:{port}" for port in ports or self.ports)
        return f"postgresql://{OWNER}@{hosts}"

    def fail_over(self) -> None:
        """Kill the primary, and make its standby the primary, which has no standby until ``restore``."""
        if not self._is_synchronous:
            self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")  # it receives nothing any more
            self.standby.reload()
            time.sleep(LAG_SECONDS)
        self.primary.kill()
        self.standby.wait_for_standbys()
        self.standby.promote()
        self._old, self.primary = self.primary, self.standby

    def restore(self) -> None:
        """Give the new primary a standby, at the port of the old one."""
        if self._old is None:
            return
        old, self._old = self._old, None
        self.standby = self._create_standby(old.port)
        old.remove()

    def freeze_standby(self) -> None:
        """Stop all processes of the standby (SIGSTOP)."""
        self.standby.signal_all(signal.SIGSTOP)

    def wake_standby(self) -> None:
        """Let the standby go on."""
        with suppress(ProcessLookupError):
            self.standby.signal_all(signal.SIGCONT)

    def _create_standby(self, port: int = 0) -> PostgresServer:
        self._count += 1
        name = f"standby_{self._count}"
        standby = self.primary.create_standby(name)
        self._stack.callback(standby.remove)
        standby.port = port
        standby.start()
        if self._is_synchronous:
            self.primary.wait_for_standbys(name)
        return standby
