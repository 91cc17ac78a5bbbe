"""A company on PostgreSQL with a standby: reads there, failover, and connections that end at any point."""
