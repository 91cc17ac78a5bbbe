"""Answers that several modules compose."""
