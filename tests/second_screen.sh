#!/usr/bin/env bash
# Runs the block of README's second screen as it stands, and asks that the answer came from the user's own file.
set -euo pipefail
cd "$(dirname "$0")/.."
trap 'rm -rf my-notes tenants/mine.toml' EXIT

block=$(awk '/<!-- second screen/ {found=1} found && /^```bash/ {inside=1; next} /^```/ {if (inside) exit} inside' README.md)
[ -n "$block" ] || { echo "README.md has no second-screen block." >&2; exit 1; }
printf '%s\n' "$block"
output=$(bash -euo pipefail -c "$block" 2>&1) || { printf '%s\n' "$output"; echo "README's second screen failed." >&2; exit 1; }
printf '%s\n' "$output"
grep -q "within 30 days" <<<"$output" || { echo "The answer is not from the user's own document." >&2; exit 1; }
