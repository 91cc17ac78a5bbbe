#!/bin/sh
# Give libpq the password of the database in a file that only this account can read, then run the command.
set -eu
umask 077
if [ -r /run/secrets/database_password ]; then
    printf '*:*:*:popug:%s\n' "$(cat /run/secrets/database_password)" > "$HOME/.pgpass"
fi
exec "$@"
