#!/bin/sh
# Runs once, in the first start of the primary: roles, access for the network, and a standby that commits wait for.
set -eu
psql --set=ON_ERROR_STOP=1 --username=postgres --quiet <<SQL
\set database_password \`cat /run/secrets/database_password\`
\set replication_password \`cat /run/secrets/replication_password\`
CREATE ROLE popug LOGIN CREATEDB PASSWORD :'database_password';
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication_password';
SELECT pg_create_physical_replication_slot('standby');
ALTER SYSTEM SET synchronous_standby_names = 'standby';
SQL
cat >> "$PGDATA/pg_hba.conf" <<HBA
host all         popug      all scram-sha-256
host replication replicator all scram-sha-256
HBA
