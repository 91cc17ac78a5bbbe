"""What a service that shares no database needs besides its streams: their state, a new life after a restore, history.

``status.py`` reports the streams and the relay, with their problems. ``restore.py`` begins a new life of a service and
sends events again. ``own_topic.py`` reads the service's own topic back. ``history.py`` subscribes to a further name.
"""
