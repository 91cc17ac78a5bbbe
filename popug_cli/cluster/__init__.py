"""A company as five services that share no database: create their homes, and link their logs through topics.

``initialise.py`` makes a cluster of a company's home, in the places of ``targets.py``: homes with files, or the
databases of ``server_targets.py``. ``service_homes.py`` makes the database of a service from that of a company.
``links.py`` has the steps of a relay and a replicator over the port ``Topic``, and ``link_threads.py`` runs them for a
server.
"""
