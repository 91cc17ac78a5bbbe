"""Commands for users, sessions and tokens.

``auth.py`` has init, login, logout, whoami and recover; ``init_prompts.py`` has the questions of init. ``user.py``
manages users, ``token.py`` machine tokens and signing keys. ``cli/state/session_file.py`` stores the token of a
login.
"""
