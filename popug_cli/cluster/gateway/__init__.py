"""The gateway of a cluster: one server for all commands, which asks the services over HTTP and holds no database.

``gateway.py`` is what the server serves. ``addresses.py`` finds the services, ``service_client.py`` asks one of them,
``composed.py`` and ``merging.py`` compose the answers for which each service has a part, and ``token_checks.py``
verifies tokens with the keys of identity.
"""
