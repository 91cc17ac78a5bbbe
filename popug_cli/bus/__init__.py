"""The event bus: an append-only log, consumers with cursors, retries and dead letters.

``context.py`` opens transactions; ``publisher.py`` appends the events of a change to the log in its transaction;
``log.py`` and ``queries.py`` read them. ``app/local_backend.py`` calls ``consumers.py`` before each command and
``catch_up.py`` after it.
Each module declares its subscription in its own ``consumers.py``; ``bootstrap.py`` collects them. ``cursors.py`` says
how far a consumer is, and where it stops. ``inbox.py`` records what it has done, as ranges of positions.
``parked_events.py`` holds the events that a consumer failed on, ``retry.py`` decides when they are retried, and
``dead_letters.py`` lets the operator retry or drop them.
``hook_cursors.py`` does all this for hooks; ``hooks/runner.py`` and ``app/workflows/hooks.py`` call it.
Services that share no database copy their logs to each other. ``relay.py`` turns a service's own events into the
records of ``records.py``, and ``replicator.py`` appends the received events that ``streams.py`` accepts.
``stream_store.py`` stores how far both are. ``cluster/links.py`` moves the records through topics.
``service/`` has the other work on a service: its status, restores, its own topic, further subscriptions.
``idempotency_store.py`` stores answers for ``app/hosting/idempotency.py``. The publisher chains the events as
``hash_chain.py`` says. ``status.py`` and ``unlinked_events.py`` find problems in the log for the views and for the
doctor (``audit/``).

An event's position in the log is stored as its ``sequence``: 1, 2, 3 …. A cursor stores the position that its consumer
has reached, 0 at first.

``tests/integration/bus/test_bus_promises.py`` proves each promise: a change and its events are one transaction; a
consumer's effects and its inbox are one transaction; a consumer processes the events of one subject in order; a
failing event blocks only its own subject; a failing consumer never fails a command.
"""
