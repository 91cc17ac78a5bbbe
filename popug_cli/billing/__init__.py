"""Billing: prices, the ledger, balances, closed days and payouts.

``consumers.py`` reacts to events, ``commands.py`` corrects an entry, ``queries.py`` answers the queries of
``messages/billing.py``. ``close_day.py`` performs the parts of a close, and ``closing.py`` the close of one day.
``explain.py`` explains figures, ``today.py`` lists the caller's activities. Money is written through
``ledger.post`` only. ``rules.py`` holds the pure rules; the signs of each kind of entry are in ``EntryKind``.

Consumes ``user_registered`` (opens an account), ``task_created`` (number and title of a task), ``task_assigned``
(charges the fee), ``task_completed`` (credits the reward) and ``day_ended`` (the day may be closed). The first event
that names a task sets its price.
Publishes ``task_priced``, ``entry_posted``, ``entry_corrected``, ``payout_made`` and ``day_closed``.

Invariants: A task has one price, which never changes. Each event has at most one entry. An entry moves its amount
between two different accounts, so that all accounts sum to zero. Entries and closed days never change, and no entry is
posted to a closed day. No reversal is dated before its entry. Days are closed without gaps, and after tasks has ended
them. There is at most one payout per employee and day; in the order (business date, position) it leaves exactly zero.
The stored balances, by account and by account and day, equal their entries.
"""
