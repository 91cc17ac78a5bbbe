"""A company on a PostgreSQL server with a streaming standby."""

from pathlib import Path
from typing import Self

from popug_cli.app import LocalBackend
from popug_cli.kernel.home import Home
from popug_cli.messages.identity import AddUser, IssueToken, LogIn, RegisterFirstAdmin
from tests.support.postgres.server import HOST, OWNER, PostgresServer
from tests.support.running_server import RunningServer
from tests.support.server_fixture import CHEAP_HASHES, PASSWORD

STANDBY = "first"


class ReplicatedCompany:
    """A home, its database on a primary with one standby, and tokens for an admin, ada, and a worker, kesha.

    Commits wait for the standby after ``be_synchronous``. The database's URL names both servers.
    """

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder / "home")
        self.primary = PostgresServer.create().start()
        self.standby: PostgresServer | None = None
        try:
            self.database = self.primary.create_database()
            self.standby = self.primary.create_standby(STANDBY).start()
            self.configure()
            self.tokens = self._create_company()
        except BaseException:
            self.end()
            raise

    @property
    def url(self) -> str:
        """The URL of the database, on whichever server takes writes."""
        assert self.standby is not None
        return f"postgresql://{OWNER}@{HOST}:{self.primary.port},{HOST}:{self.standby.port}/{self.database}"

    def configure(self, url: str = "", replica_url: str = "") -> None:
        """Write the home's settings: the database's URL, by default that of both servers, and that of a replica."""
        self.home.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        database = f'[database]\nurl = "{url or self.url}"\nreplica_url = "{replica_url}"\n'
        self.home.config.write_text(f"{CHEAP_HASHES}{database}")

    def use_replica(self) -> None:
        """Let queries read from the standby."""
        assert self.standby is not None
        self.configure(replica_url=self.standby.url(self.database))

    def be_synchronous(self) -> None:
        """Let commits wait for the standby."""
        self.primary.wait_for_standbys(STANDBY)

    def promote(self) -> None:
        """Make the standby the primary, which waits for no other standby."""
        assert self.standby is not None
        self.standby.promote()

    def backend(self, warnings: list[str] | None = None) -> LocalBackend:
        """Return a backend of this process, with connections of its own."""
        return LocalBackend(self.home, warn=(warnings if warnings is not None else []).append)

    def serve(self) -> RunningServer:
        """Start ``popug serve``."""
        return RunningServer(self.home.root)

    def end(self) -> None:
        """Kill both servers and delete their folders."""
        if self.standby is not None:
            self.standby.remove()
        self.primary.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def _create_company(self) -> dict[str, str]:
        backend = self.backend()
        backend.create_company("Europe/Berlin")
        backend.perform(RegisterFirstAdmin(username="ada", email="ada@example.com", password=PASSWORD))
        ada = backend.perform(LogIn(username="ada", password=PASSWORD)).token
        backend.perform(AddUser(username="kesha", email="kesha@example.com", role="worker"), ada)
        kesha = backend.perform(IssueToken(username="kesha", ttl_seconds=86400), ada).token
        backend.close()
        return {"ada": ada, "kesha": kesha}
