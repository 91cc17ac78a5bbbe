"""Audit: the checks behind ``popug doctor`` and ``popug ledger verify``, and the replay of a read model.

``doctor.py`` lists all checks by name and runs them; ``app/views/health.py`` calls it. ``sql_invariants.py`` has the
checks that are one SQL statement each; some read ``summaries.py``. ``log_pass.py`` reads the log once for all checks
that need every event. They and the others are in ``chain_check.py`` (the hash chain), ``ledger_checks.py``,
``cross_module_checks.py``, ``draw_checks.py`` (repeats every draw) and ``attention_checks.py``. ``rebuild.py`` replays
events into a copy of a read model; ``app/workflows/replay.py`` uses it as well.

Only this package reads the tables of all modules. It changes nothing in a company: it writes to temporary tables and
to copies.
"""
