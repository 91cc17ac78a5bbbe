"""The parts of a service that shares no database, besides its streams: their state, a restore, history, coverage.

``status.py`` reports the streams and the relay, with their problems. ``restore.py`` gives logs new ids and sends
events again. ``own_topic.py`` reads the service's own topic back. ``history.py`` subscribes to a further name.
``coverage.py`` says which positions of other services this one covers.
"""
