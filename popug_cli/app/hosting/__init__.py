"""A company held open for many threads of a server.

``served_company.py`` is the entry point, which ``server/`` calls. ``thread_coordination.py`` decides which thread runs
the consumers; ``idempotency.py`` performs a command with an idempotency key once.
"""
