#!/bin/sh
# Installs the load generator that the benchmarks need, from Debian's own packages.
set -eu

if command -v wrk >/dev/null; then
    exit 0
fi
echo "installing wrk with apt-get" >&2
root=""
if [ "$(id -u)" -ne 0 ]; then
    root=sudo
fi
$root apt-get update -qq
$root apt-get install -y -qq --no-install-recommends wrk >&2
