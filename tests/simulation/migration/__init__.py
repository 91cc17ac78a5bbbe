"""A home of an earlier release, whose migration is killed at one point after the other."""
