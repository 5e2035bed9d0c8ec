#!/usr/bin/env bash
# Writes this run's OIDC token where the AWS SDKs look for it; they then assume AWS_ROLE_ARN by themselves.
set -euo pipefail
umask 077
file="$RUNNER_TEMP/aws-token"
curl --silent --show-error --fail --max-time 30 \
  --header "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
  "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=sts.amazonaws.com" |
  python3 -c 'import json, sys; sys.stdout.write(json.load(sys.stdin)["value"])' > "$file"
test -s "$file"
echo "AWS_WEB_IDENTITY_TOKEN_FILE=$file" >> "$GITHUB_ENV"
