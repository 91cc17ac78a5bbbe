"""A company on PostgreSQL: what its users and its operator see, reads on a standby, failover, lost connections."""
