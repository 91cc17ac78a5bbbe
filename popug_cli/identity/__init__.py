"""Identity and access: users, roles, passwords, tokens and the keys that sign them.

Consumes: nothing. In the other services of a cluster, the consumer ``tokens`` consumes identity's own events.
Publishes: ``user_registered``, ``user_role_changed``, ``user_email_changed``, ``user_deactivated``,
``user_reactivated`` (consumed by tasks, billing, analytics and mail), and for the audit ``password_changed``,
``admin_recovered``, ``token_issued``, ``token_revoked``, ``key_published``, ``key_rotated``.
Invariants: a username is never reused; an address belongs to one user; from the first registration on there is an
active admin; no event contains a secret (password, hash, private key, token), and an answer contains one only if it
issues it; a token is valid while a key of the home signs it, it is neither expired nor revoked, and its owner is active
in the role that it names.

``commands`` and ``queries`` handle the messages. ``rules`` has the pure rules, ``users`` and ``token_store`` the stored
users and tokens, ``keys`` the files of the signing keys, ``tokens`` the signatures. ``app/local_backend.py`` calls
``policy`` for each message. It chooses ``authorization``, which checks the stored tokens, or in another service
``service_authorization``, which checks ``token_copies``. A server verifies tokens through ``token_cache``.
``app/handlers.py`` finds the functions of ``prehash`` by name, and ``app/views/shell_completion.py`` calls
``shell_completion``.
"""
