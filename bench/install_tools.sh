#!/bin/sh
# Installs what tests and benchmarks need besides Python packages, from Debian's own: the load
# generator wrk, and Redis, which the tests start and stop themselves.
set -eu

missing=""
command -v wrk >/dev/null || missing="wrk"
command -v redis-server >/dev/null || missing="$missing redis-server"
if [ -z "$missing" ]; then
    exit 0
fi
echo "installing$(printf ' %s' $missing) with apt-get" >&2
root=""
if [ "$(id -u)" -ne 0 ]; then
    root=sudo
fi
$root apt-get update -qq
# shellcheck disable=SC2086 # one word a package
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $missing >&2
