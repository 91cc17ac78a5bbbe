"""The HTTP interface of ``perform``: one process opens the home exclusively and serves its messages on sockets.

`popug serve` (``cli/commands/operations/serve.py``) calls ``run``, which starts and stops the server; ``sockets`` and
``systemd`` open its sockets. A request passes ``connection_limits`` and ``request_limits``. ``application`` finds its
route: ``routes`` has those of the messages, ``meta_routes`` those about the server. ``requests`` decodes it,
``thread_pools`` runs it in a thread, and ``app/hosting/served_company.py`` performs it. ``peers`` and ``login_limits``
give each client a share. ``http_errors`` has the problem documents, ``event_stream`` the server-sent events;
``openapi`` describes the API.
"""
