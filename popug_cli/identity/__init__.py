"""Identity and access: users, roles, passwords, tokens and the keys that sign them.

Consumes: nothing.
Publishes: ``user_registered``, ``user_role_changed``, ``user_email_changed``, ``user_deactivated``,
``user_reactivated`` (consumed by tasks, billing, analytics and mail), and for the audit ``password_changed``,
``admin_recovered``, ``token_issued``, ``token_revoked``, ``key_rotated``.
Invariants: a username is never reused; an address belongs to one user; from the first registration on there is an
active admin; no event contains a secret (password, hash, private key, token), and an answer contains one only if it
issues it; a token is valid while a key of the home has signed it, it is not expired and not revoked; its owner must be
active in the role that it names.
"""
