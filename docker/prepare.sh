#!/usr/bin/env bash
# Prepares the first start of compose.yaml: random secrets in build/secrets, and the user of the containers in
# docker/.env, which compose reads. Existing ones are kept; remove build/secrets for new ones.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077

# Only their owner can read the secrets, so containers run as the user who creates them. If that is root, they run as
# user 1000 (or the user in docker/.env), who then gets the files.
if [ "$(id -u)" = 0 ]; then owner=1000:1000; else owner=$(id -u):$(id -g); fi
touch docker/.env
for setting in COMPOSE_PROJECT_NAME=lungforge "LUNGFORGE_USER=$owner"; do
    grep -q "^${setting%%=*}=" docker/.env || echo "$setting" >> docker/.env
done

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

if [ ! -e build/secrets ]; then
    rm -rf build/secrets.new
    mkdir -p build/secrets.new
    access_key=$(random 10)
    secret_key=$(random 20)
    random 32 > build/secrets.new/ray-token
    random 16 > build/secrets.new/grafana-password
    printf '[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n' "$access_key" "$secret_key" \
        > build/secrets.new/store-credentials
    printf '{"identities": [{"name": "lungforge", "credentials": [{"accessKey": "%s", "secretKey": "%s"}],
 "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}\n' "$access_key" "$secret_key" \
        > build/secrets.new/store-identities.json
    if [ "$(id -u)" = 0 ]; then chown "$(sed -n 's/^LUNGFORGE_USER=//p' docker/.env)" build/secrets.new/*; fi
    mv build/secrets.new build/secrets
fi
