"""Analytics for management: income, employees in the red, the most expensive completed task by day, week and month.

``rules.py`` adds up events, ``consumers.py`` writes the sums, ``queries.py`` reads them. Which task is the most
expensive is decided in ``messages/most_expensive.py``. Figures as of a past instant come from the ledger instead:
``billing/as_of.py``.

Consumes ``user_registered``, ``task_created``, ``task_priced``, ``task_completed``, ``entry_posted`` and
``day_closed``; publishes nothing. All tables are read models: they can be rebuilt from the events, whatever the order
between subjects. A task and a closed day are upserted by key, so that a repeated event changes nothing. Balances and
income are sums. The bus's inbox, written in the same transaction, ensures that each entry is added
once. A table of processed entries would only repeat that guarantee, at the cost of a second write per entry.
"""
