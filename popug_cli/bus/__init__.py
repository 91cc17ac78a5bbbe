"""The bus: an append-only log of events, consumers with their places in it, retries and dead letters.

What it promises is proved one by one in ``tests/integration/bus/test_bus_promises.py``: a change and its events are one
transaction; a consumer's effects and its mark in the inbox are one transaction; events of one subject arrive in order;
a bad event holds up its own subject only; a failing consumer fails no command.
"""
