"""The client: send messages to a company's server, without loading the database code.

``cli/backends.py`` chooses the backend of a command; ``discovery`` finds the server for it. ``remote_backend`` performs
messages by requests, which ``http`` sends to an ``address``; ``errors`` has the errors about the server. The routes and
headers are those of ``server/``.
"""
