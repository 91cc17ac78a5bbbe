"""The module billing."""
