"""Cron lines and systemd units that run popug.

``schedule_units.py`` closes each day (``popug scheduler install``), ``server_unit.py`` serves a company
(``popug serve install``).
"""
