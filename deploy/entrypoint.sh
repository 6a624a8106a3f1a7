#!/bin/sh
# Run a command with NAME_KEY set to what the file in NAME_KEY_FILE holds, for every such variable:
# an orchestrator gives secrets as files, and `api_key_env` names a variable.
set -eu

refuse() {
    echo "nearhit-entrypoint: $1" >&2
    exit 2
}

for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*_KEY\)_FILE=.*/\1/p'); do
    eval "file=\${${name}_FILE-} given=\${${name}-}"
    [ -n "$file" ] || continue
    [ -z "$given" ] || refuse "$name and ${name}_FILE are both set; allowed: one of them"
    [ -r "$file" ] || refuse "${name}_FILE: $file cannot be read by uid $(id -u)"
    value=$(cat "$file")
    [ -n "$value" ] || refuse "${name}_FILE: $file is empty"
    export "$name=$value"
    unset "${name}_FILE"
done
exec "$@"
