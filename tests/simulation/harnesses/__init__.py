"""Tests of the harnesses: the bugs that each finds, and how soon."""
