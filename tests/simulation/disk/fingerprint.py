"""The content of a disk after a cut, once SQLite has recovered, so that equal contents are judged once."""

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path


def fingerprint(root: Path) -> str:
    """Return everything that the program will find under a root; the root is not changed.

    The session file is left out, since it contains the path.
    """
    digest = hashlib.blake2b(_recovered(root / "home"), digest_size=16)
    for file in sorted(root.rglob("*")):
        if file.name.startswith("popug.db") or file.name == "session.json":
            continue
        digest.update(f"{file.relative_to(root)}\0".encode())
        if file.is_file():
            digest.update(b"%d\0" % file.stat().st_size + file.read_bytes())
    return digest.hexdigest()


def _recovered(home: Path) -> bytes:
    """Return the database as SQLite recovers it, from a copy."""
    probe = home.parent.with_name(f"{home.parent.name}-probe")
    shutil.rmtree(probe, ignore_errors=True)
    probe.mkdir()
    for file in home.glob("popug.db*"):
        if not file.name.endswith("-shm"):
            shutil.copyfile(file, probe / file.name)
    copy = probe / "popug.db"
    if not copy.exists():
        return repr(sorted(file.name for file in home.glob("popug.db*"))).encode()
    try:
        with closing(sqlite3.connect(copy)) as database:
            database.execute("PRAGMA synchronous=OFF")
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        return f"{error!r} {id(error)}".encode()
    return copy.read_bytes()
