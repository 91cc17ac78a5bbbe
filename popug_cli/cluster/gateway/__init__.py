"""The gateway of a cluster: one server for all commands, which asks the services over HTTP and holds no database.

``gateway.py`` is what the server serves. ``asking.py`` and ``service_answers.py`` ask services. ``composed.py`` and
``merging.py`` compose the answers for which each service has a part. ``token_checks.py`` verifies tokens.
"""
