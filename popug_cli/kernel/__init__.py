"""Basics that every part of popug may use; only ``platform`` lies below.

Values: ``money.py``, ``clock.py``, ``calendar.py``, ``text.py``, ``charts.py``, ``version.py``. The home and its
settings: ``home.py``, ``settings.py``, ``serve_lock.py``. Errors: ``errors.py`` has the tree of all errors,
``disk_errors.py`` those of the operating system. Rules that several modules share: ``draws.py`` (how prices and
assignees are drawn, used by ``billing/rules.py`` and ``tasks/rules.py``) and ``backoff.py`` (waits after failures).
``clock.py``, ``randomness.py`` and ``progress.py`` declare the ports that tests and simulations replace.
"""
