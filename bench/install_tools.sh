#!/bin/sh
# Installs what tests and benchmarks need besides Python packages. From Debian's own: the load
# generator wrk, Redis, which the tests start and stop themselves, Chromium with a font, and what makes
# digests where there are no coreutils (deploy/setup.sh takes any of them). From
# npm: axe-core, which judges whether pages can be used by everybody; nothing but tests loads it.
set -eu

AXE=axe-core@4.14.1
AXE_SHA512=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5
AXE_SCRIPT=.tools/axe.min.js

from_debian() {
    missing=""
    command -v wrk >/dev/null || missing="wrk"
    command -v redis-server >/dev/null || missing="$missing redis-server"
    command -v chromium >/dev/null || missing="$missing chromium fonts-dejavu-core"
    command -v shasum >/dev/null || missing="$missing perl"
    command -v openssl >/dev/null || missing="$missing openssl"
    if [ -z "$missing" ]; then
        return
    fi
    echo "installing$(printf ' %s' $missing) with apt-get" >&2
    root=""
    if [ "$(id -u)" -ne 0 ]; then
        root=sudo
    fi
    $root apt-get update -qq
    # shellcheck disable=SC2086 # one word a package
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive $root apt-get install -y -qq --no-install-recommends $missing >&2
}

# Without it only the tests that need it fail, and say so.
from_npm() {
    if [ -f $AXE_SCRIPT ]; then
        return
    fi
    if ! command -v npm >/dev/null; then
        echo "no npm here, so no $AXE: install npm and run 'make tools' for the tests of accessibility" >&2
        return
    fi
    mkdir -p .tools
    folder=$(mktemp -d .tools/axe.XXXXXX)
    trap 'rm -rf "$folder"' EXIT
    if ! npm pack --silent --pack-destination "$folder" $AXE >/dev/null; then
        echo "npm cannot fetch $AXE: run 'make tools' again for the tests of accessibility" >&2
        return
    fi
    if ! echo "$AXE_SHA512  $(ls "$folder"/*.tgz)" | sha512sum --check --quiet; then
        echo "$AXE is not what it was when its digest was written down here" >&2
        exit 1
    fi
    tar -xzf "$folder"/*.tgz -C "$folder" package/axe.min.js
    mv "$folder"/package/axe.min.js $AXE_SCRIPT
}

from_debian
from_npm
