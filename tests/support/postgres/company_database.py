"""The database of a company under test: the file in its home, or a database of a PostgreSQL server."""

import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.postgres import clock
from tests.support.postgres.server import OWNER, PostgresServer

SELECT_TRIGGERS = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
MODULE_OF_TABLE = re.compile(r"(?<![a-z])(identity|tasks|billing|analytics|mail)_")


class CompanyDatabase:
    """The file in a home, or with a ``server`` a database there, which is created when it is first needed.

    In a cluster there are several files: ``file_of_module`` returns that with the tables of a module.
    """

    def __init__(self, home: Path, server: PostgresServer | None) -> None:
        self.server = server
        self.name = ""
        self.file = home / "popug.db"
        self.file_of_module: Callable[[str], Path] = lambda module: self.file
        self._lock = threading.Lock()

    def environment(self, clock_offset: timedelta) -> dict[str, str]:
        """Return the variables for a process that uses the database, with a clock that is ahead of the machine's."""
        if self.server is None:
            return {}
        return {"POPUG_DATABASE": self.url(), **(clock.environment(clock_offset) if clock_offset else {})}

    def url(self) -> str:
        """Return the URL of the database on the server."""
        assert self.server is not None
        with self._lock:
            if not self.name:
                self.name = self.server.create_database()
                clock.install(self.server, self.name)
        return self.server.url(self.name)

    def copy_from(self, other: "CompanyDatabase") -> None:
        """Begin as a copy of another database on the same server; a file is copied with its home."""
        if self.server and other.name:
            self.name = self.server.create_database(template=other.name)

    def run(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement in a transaction of its own, and return its rows; ``?`` stands for a value."""
        if self.server:
            return self.server.execute(statement.replace("?", "%s"), *values, database=self.name, role=OWNER)
        with closing(sqlite3.connect(self._file_of(statement, *values), isolation_level=None)) as file:
            return file.execute(statement, values).fetchall()

    def edit(self, *statements: str) -> None:
        """Run statements as the shell of sqlite3 or psql would, past every trigger."""
        if self.server:
            with self.server.session(self.name) as session:
                session.execute("SET session_replication_role = replica")
                for statement in statements:
                    session.execute(statement.encode())
            return
        with closing(sqlite3.connect(self._file_of(*statements), isolation_level=None)) as file:
            triggers = file.execute(SELECT_TRIGGERS).fetchall()
            for name, _ in triggers:
                file.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                file.execute(statement)
            for _, trigger in triggers:
                file.execute(trigger)

    def _file_of(self, *texts: Any) -> Path:
        """Return the file with the tables of the module that the texts name first."""
        found = MODULE_OF_TABLE.search(" ".join(map(str, texts)))
        return self.file_of_module(found[1]) if found else self.file

    def is_in_use(self) -> bool:
        """Return whether a program of popug has a session on the server."""
        sessions = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND application_name = 'popug'"
        return self.server is not None and bool(self.server.execute(sessions, self.name))

    def drop(self) -> None:
        """Drop the database of the server."""
        if self.server and self.name:
            self.server.drop_database(self.name)
            self.name = ""
