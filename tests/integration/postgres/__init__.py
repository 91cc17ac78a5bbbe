"""A company on PostgreSQL: what its users and its operator see. Skipped where PostgreSQL is missing."""
