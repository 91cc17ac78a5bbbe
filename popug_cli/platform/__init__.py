"""Details of the operating system. This package imports nothing of popug.

``files.py`` writes files that survive a power cut, ``swap_dirs.py`` replaces a home by a restored one, and
``file_id.py`` notices that an open file was replaced. ``temporary.py`` creates temporary files that a later process
can recognize as left behind. ``accounts.py`` and ``peer.py`` find the account behind a file or a socket.
``posix_errors.py`` sorts errno values; ``kernel/disk_errors.py`` turns them into ``PopugError``. ``signals.py`` lets
SIGTERM and SIGHUP clean up; ``__main__.py`` uses it. ``orphans.py`` ends what a child process leaves running.
"""
