"""The published language: commands, queries, their answers, and events; everything that crosses a boundary.

``base.py`` has the base classes and registers each message (``declare``) and event (``event``). The file of a message
names the module that performs it; ``company``, ``today`` and ``scheduler`` hold messages that ``app`` composes, or that
name their handler. ``internal/`` has the parts of composed answers; ``most_expensive.py`` is shared by two of them.
``app/handlers.py`` finds the function. ``backend.py`` is the interface that performs messages, and ``principal.py``
the user or process on whose behalf. ``envelope.py`` and ``upcasters.py`` decode stored events, ``schema.py`` derives
their JSON Schemas, which are stored in ``schemas/``. ``problem.py`` is the form of an error over HTTP.
"""
