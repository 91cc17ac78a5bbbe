"""A home of an earlier release, whose migration is killed at each point."""
