"""Mail: payslips and daily summaries, each queued once and sent at least once, always with the same Message-ID.

Consumes ``payout_made``, ``day_closed`` and the events about users (``user_registered``, ``user_email_changed``,
``user_role_changed``, ``user_deactivated``, ``user_reactivated``); publishes ``mail_sent``, ``mail_failed``,
``mail_requeued`` and ``mail_released``. A unique constraint allows one payslip and one summary per user and business
date. A mail is claimed with a lease in one transaction, sent outside any, and marked in another. If the process dies in
between, the lease expires and the mail is sent again with the same Message-ID. ``mail_sent`` events are published
later, in batches. ``sending.py`` and ``summaries.py`` run several transactions each. A mail goes to the receiver's
address at the time of sending, a summary only to users who then belong to management.
"""
