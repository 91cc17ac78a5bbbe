"""A company as five services that share no database: create their homes, and link their logs through topics.

``service_homes.py`` makes a home for each service from a company's home. ``links.py`` has the steps of a relay and a
replicator over the port ``Topic``, and ``link_threads.py`` runs them for a server.
"""
