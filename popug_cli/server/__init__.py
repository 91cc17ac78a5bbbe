"""The HTTP interface of ``perform``: one process opens the home exclusively and serves its messages on sockets.

``run`` starts and stops the server, ``sockets`` opens its sockets. ``connection_limits`` and ``request_limits`` check
connections and requests. ``routes`` has the routes of the messages, ``meta_routes`` those about the server,
``thread_pools`` the worker threads, ``http_errors`` the problem documents, ``event_stream`` the server-sent events;
``openapi`` and ``page`` describe the API.
"""
