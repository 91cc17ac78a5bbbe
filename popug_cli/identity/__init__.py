"""Who people are and what they may do: people, roles, passwords, tokens and the keys that sign them.

Consumes: nothing.
Publishes: ``user_registered``, ``user_role_changed``, ``user_email_changed``, ``user_deactivated``,
``user_reactivated`` (tasks, billing, analytics and mail live by them), and for the audit ``password_changed``,
``admin_recovered``, ``token_issued``, ``token_revoked``, ``key_rotated``.
Invariants: a username is never given twice nor freed; an address belongs to one person; from the first registration on
there is an active admin; what is secret (passwords, hashes, private keys, tokens) stands in no event and no answer but
the one that hands it over; a token is good while it is signed by a key of the home, not expired, not revoked, and its
holder is active in the role that it names.
"""
