"""The event bus: an append-only log, consumers with cursors, retries and dead letters.

``tests/integration/bus/test_bus_promises.py`` proves each promise: a change and its events are one transaction; a
consumer's effects and its inbox row are one transaction; events of one subject arrive in order; a failing event blocks
only its own subject; a failing consumer never fails a command.
"""
