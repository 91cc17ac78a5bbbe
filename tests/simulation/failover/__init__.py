"""Kill the primary of a PostgreSQL company under load: no acknowledged command is lost, none takes effect twice."""
