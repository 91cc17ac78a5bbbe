"""Helpers for tests, named by what they build."""
