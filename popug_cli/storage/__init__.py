"""Storage: the port to a database, its driver for SQLite, error translation, migrations and backups.

``port.py`` is what the rest of popug knows of a database; ``bus/context.py`` is its main caller. ``sqlite.py`` is the
driver: it opens the file and runs its transactions. ``read_only.py`` opens it for shell completion. ``write_lock.py``
queues the writers of all processes. ``errors.py`` turns errors of SQLite and of the operating system into
``PopugError``. ``migrate.py`` applies ``migrations/`` when a command opens an older database, and ``mounts.py`` refuses
file systems without reliable locks; ``bootstrap.py`` calls both. ``backup_file.py`` writes backups for
``app/workflows/backup.py``. For ``restore.py``, ``backup_reader.py`` unpacks one and ``foreign_database.py`` checks it;
``schema.py`` knows the schema of every version. ``wal_check.py`` notices for ``app/hosting/served_company.py`` that the
open files were replaced. ``temporary_home.py`` creates the temporary homes of backups and restores, and clears those of
killed processes; ``volume_swap.py`` restores into a mount point. ``heartbeat.py`` and ``tables.py`` hold data about the
home. ``scratch.py`` opens databases without a name; in one, ``disk_counter.py`` counts more texts than fit into memory.
"""
