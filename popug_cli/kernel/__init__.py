"""Basics that every part of popug may use; only ``platform`` lies below.

Values: ``money.py``, ``clock.py``, ``calendar.py``, ``machine_zone.py``, ``text.py``, ``stored_values.py``,
``charts.py``, ``version.py``, ``jwt_payload.py``. The home and its settings: ``home.py``, ``home_owner.py``,
``serve_lock.py``, ``settings.py``, ``settings_file.py``. Errors: ``errors.py`` has the tree of all errors,
``disk_errors.py`` those of the operating system; ``leftovers.py`` has the sentence about what a killed process left.
``log.py`` writes the log of a server. Rules that several modules share: ``draws.py`` (how prices and assignees are
drawn, used by ``billing/rules.py`` and ``tasks/rules.py``) and ``backoff.py`` (waits after failures). ``clock.py``,
``randomness.py`` and ``progress.py`` declare the ports that tests and simulations replace.
"""
