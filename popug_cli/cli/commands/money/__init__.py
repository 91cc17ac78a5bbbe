"""Commands for accounts, the ledger, analytics and mail.

``accounts.py`` has balance, statement, income and close-day; ``balance_history.py`` its day-by-day balances.
``ledger.py`` verifies, corrects and exports; the export formats are in ``cli/output/ledger_formats.py``.
``explain.py``, ``analytics.py`` and ``mail.py`` have the commands of their names.
"""
