"""Payout mail: every payout queued once, sent at least once, always under the same Message-ID.

Consumes ``user_registered``, ``user_email_changed`` and ``payout_made``; publishes ``mail_sent``, ``mail_failed``,
``mail_requeued`` and ``mail_released``. A person has at most one mail a business date, which a unique constraint keeps.
A mail is claimed with a lease in one transaction, handed to the transport outside any, and marked in another; where a
process dies in between, the lease runs out and the mail goes out again under its Message-ID. It goes to the address
that its receiver has then.
"""
