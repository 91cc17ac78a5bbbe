"""The HTTP face of ``perform``: a process that alone opens the home and serves its messages on sockets.

``running`` is its life from the first socket to the last answer, ``sockets`` where it listens, ``protocol`` what one
connection may do, ``gate`` what one request may do, ``web`` its routes, ``work`` the threads that perform, ``problems``
how a refusal is told, ``feed`` the events as they come, ``openapi`` and ``page`` what it says of itself.
"""
