#!/bin/sh
# Once, before the first `docker compose up`: a password for Redis, a client's and an admin's key.
# The keys are printed and kept nowhere: .env holds their digests. What is there already stays.
set -eu
cd "$(dirname "$0")/.."

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
if command -v sha256sum > /dev/null; then
    sum() { sha256sum; }
elif command -v shasum > /dev/null; then # macOS
    sum() { shasum -a 256; }
elif command -v openssl > /dev/null; then
    sum() { openssl dgst -sha256 -r; }
else
    echo "setup.sh needs sha256sum, shasum or openssl" >&2
    exit 1
fi
digest() { printf %s "$1" | sum | cut -d ' ' -f 1; }

# Containers see the files under a uid of their own, so the files are open, and their folder is
# closed to everybody else on this machine.
mkdir -p deploy/secrets
chmod 700 deploy/secrets
if [ ! -e deploy/secrets/redis_password ]; then
    random > deploy/secrets/redis_password
fi
if [ ! -e deploy/secrets/openai_api_key ]; then
    if [ -n "${OPENAI_API_KEY:-}" ]; then
        printf %s "$OPENAI_API_KEY" > deploy/secrets/openai_api_key
    else
        echo "put the upstream's API key into deploy/secrets/openai_api_key" >&2
        : > deploy/secrets/openai_api_key
    fi
fi
for file in deploy/secrets/*; do
    if [ -f "$file" ]; then chmod 644 "$file"; fi # not folders: those of docs/federated.md
done

if [ -e .env ]; then
    echo ".env is there already: no keys were made" >&2
    exit 0
fi
client=$(random) admin=$(random)
printf "NEARHIT_AUTH__KEYS='[{\"sha256\": \"%s\", \"tenant\": \"default\"}, {\"sha256\": \"%s\", \"role\": \"admin\"}]'\n" \
    "$(digest "$client")" "$(digest "$admin")" > .env
echo "client key: $client"
echo "admin key:  $admin"
