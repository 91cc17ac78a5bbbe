"""The ledger and the days: prices, debits and credits, balances, closing and payouts.

Consumes: ``user_registered`` (an account), ``task_created`` (a price), ``task_assigned`` (a fee), ``task_completed`` (a
reward). Publishes: ``task_priced``, ``entry_posted``, ``entry_corrected``, ``payout_made``, ``day_closed``.
Invariants: a task has one price for good; each event has at most one entry; an entry moves its amount between two
different accounts, so that all accounts sum to zero; entries and closed days never change, and nothing is entered into
a closed day; days are closed without gaps; a payout leaves exactly zero in the order (business date, position), one a
person and day; the balance kept with an account and those kept by account and day equal their entries.
"""
