"""SQLite storage: opening the file, transactions, error translation, migrations and backups."""
