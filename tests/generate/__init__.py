"""Makes every generated file: ``python -m tests.generate``."""
