"""Queries that combine data of several modules."""
