#!/bin/sh
# Copy the primary in the first start, then run as its standby. The password is in a file, not in a command line.
set -eu
umask 077
printf '*:*:*:replicator:%s\n' "$(cat /run/secrets/replication_password)" > /tmp/pgpass
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    chmod 700 "$PGDATA"
    pg_basebackup --pgdata="$PGDATA" --write-recovery-conf --slot=standby --wal-method=stream --checkpoint=fast \
        --dbname='host=postgres-primary user=replicator application_name=standby passfile=/tmp/pgpass'
fi
exec postgres
