"""Processes that run in the background: the scheduler and the hook loop."""
