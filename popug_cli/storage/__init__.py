"""The SQLite file: how it is opened, what its faults mean, how a transaction begins and ends, how it migrates."""
