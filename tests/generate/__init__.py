"""Make every generated file: ``python -m tests.generate``."""
