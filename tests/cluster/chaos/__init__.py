"""Chaos runs: a cluster on real brokers and databases, with faults and clients at the same time."""
