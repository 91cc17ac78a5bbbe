"""A company held open for many threads: coordination of the threads, and idempotency of their requests."""
