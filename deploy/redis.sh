#!/bin/sh
# Start Redis with the password of the secret file. It goes in over standard input, so that neither
# the command line nor the environment shows it.
set -eu
password=$(sed 's/[\\"]/\\&/g' /run/secrets/redis_password)
exec redis-server - <<END
include /etc/nearhit/redis.conf
requirepass "$password"
END
