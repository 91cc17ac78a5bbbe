"""The state that the command line keeps between commands, in the user's configuration directory.

``session_file.py`` stores the token of each login, ``last_seen.py`` the last event that ``popug today`` has shown.
"""
