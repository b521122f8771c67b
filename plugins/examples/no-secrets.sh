#!/usr/bin/env bash
# ingle hook run --point prompt --text --on-error refuse -- plugins/examples/no-secrets.sh
if grep -qE -e '-----BEGIN [A-Z ]*PRIVATE KEY-----' -e '\bAKIA[0-9A-Z]{16}\b'; then
    echo "this prompt has a secret key in it"
    exit 10
fi
