"""Basics that every part of popug may use: money, time, randomness, text, errors, settings, the home."""
