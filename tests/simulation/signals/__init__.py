"""Signals at any moment of every command of a scenario."""
