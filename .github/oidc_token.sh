#!/usr/bin/env bash
# oidc_token.sh MINUTES: writes this run's OIDC token where the AWS SDKs look for it (they then assume AWS_ROLE_ARN by
# themselves), and writes it anew every four minutes in the background, for as long as the job may take.
# oidc_token.sh end: no longer.
#
# GitHub's token is good for five minutes and the session that it opens for an hour. The SDKs read the file again
# when a session ends, so the file must hold a token that is good then.
set -euo pipefail
umask 077
file="$RUNNER_TEMP/aws-token"

fetch() {
  # Moved only when it is whole: a reader may come at any time, and a token that is good stays.
  curl --silent --show-error --fail --max-time 30 \
    --header "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
    "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=sts.amazonaws.com" |
    python3 -c 'import json, sys; sys.stdout.write(json.load(sys.stdin)["value"])' > "$file.new" &&
    test -s "$file.new" && mv "$file.new" "$file"
}

renew() {
  for ((left = $1 / 4; left > 0; left--)); do
    sleep "${OIDC_PAUSE_S:-240}"
    fetch || echo "not renewed, tried again in four minutes"
  done
}

if [[ "$1" == end ]]; then
  kill "$(cat "$file.pid" 2> /dev/null)" 2> /dev/null || true
  exit 0
fi
fetch
# Streams of its own: the runner waits for those of a step to close.
renew "$1" < /dev/null > "$file.log" 2>&1 &
echo $! > "$file.pid"
echo "AWS_WEB_IDENTITY_TOKEN_FILE=$file" >> "$GITHUB_ENV"
