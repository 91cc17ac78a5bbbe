"""What management sees: income, who is in the red, the dearest completed task by day, week and month.

Consumes ``user_registered``, ``task_created``, ``task_priced``, ``task_completed``, ``entry_posted`` and
``day_closed``; publishes nothing. Everything here comes from events and can be rebuilt from them, in whatever order
their subjects are interleaved. Facts (a task, a closed day) are written under their key, so that saying them twice
changes nothing. Sums (balances, income) are added up; that each entry is added once is kept by the unique mark in the
bus's inbox, written in the same transaction: a table of the entries seen would write every entry a second time to prove
what the mark proves.
"""
