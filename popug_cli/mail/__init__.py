"""Mail: every payout queued once, sent at least once, always under the same Message-ID; so is the summary of a day.

Consumes ``payout_made``, ``day_closed`` and what identity says of people (``user_registered``, ``user_email_changed``,
``user_role_changed``, ``user_deactivated``, ``user_reactivated``); publishes ``mail_sent``, ``mail_failed``,
``mail_requeued`` and ``mail_released``. A person has at most one payslip and one summary a business date, which a
unique constraint keeps. A mail is claimed with a lease in one transaction, handed to the transport outside any, and
marked in another; where a process dies in between, the lease runs out and the mail goes out again under its
Message-ID. What was sent is told of a little later, many at once. A mail goes to the address that its receiver has
then, a summary only to who is of management then.
"""
