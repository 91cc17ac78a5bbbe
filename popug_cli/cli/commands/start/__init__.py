"""Commands to start with.

``welcome.py`` is the screen of ``popug`` without a command, ``today.py`` the user's day, ``dashboard.py`` the start
of the full-screen dashboard (``popug_cli/dashboard``). ``demo.py`` plays a sample day; ``man.py`` makes the manual
page.
"""
