"""The HTTP face of ``perform``: a process that alone opens the home and serves its messages on sockets.

``run`` is its life from the first socket to the last answer, ``sockets`` where it listens, ``connection_limits`` what
one connection may do, ``request_limits`` what one request may do, ``routes`` its routes, ``thread_pools`` the threads
that perform, ``http_errors`` how a refusal is told, ``event_stream`` the events as they come, ``openapi`` and ``page``
what it says of itself.
"""
