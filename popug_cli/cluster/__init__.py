"""A company as five services that share no database, whose logs are linked through topics.

``initialise.py`` turns a company's home into a cluster, in the places of ``targets.py``: homes with files, or the
databases of ``server_targets.py``. ``service_homes.py`` makes the database of a service from that of a company.
``links.py`` has the steps of a relay and a replicator over the port ``Topic``. The leader of a service
(``leadership.py``) runs them in the threads of ``link_threads.py``. ``service.py`` connects a served service with the
others. ``backup.py``, ``restore.py``, ``doctor.py``, ``status.py`` and ``republish.py`` are for the operator.
"""
