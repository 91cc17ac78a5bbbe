"""PostgreSQL servers for the tests: they run on loopback, in temporary folders, and end with the tests."""
