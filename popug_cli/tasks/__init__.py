"""The module tasks."""
