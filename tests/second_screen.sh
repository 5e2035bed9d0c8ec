#!/usr/bin/env bash
# Runs the block of README's second screen as it stands, and asks that the answer came from the user's own file;
# then the Makefile's own question, whose document names its code in the title.
set -euo pipefail
cd "$(dirname "$0")/.."
trap 'rm -rf my-notes tenants/mine.toml' EXIT
# README begins from the pharmacy: where a company has deleted that example, the tests' own is lent for the run.
[ -e tenants/pharmacy.toml ] || { trap "rm -rf my-notes tenants/mine.toml tenants/pharmacy.toml" EXIT; sed 's#"connectors/#"../tests/tenants/connectors/#; s#"../../#"../#' tests/tenants/pharmacy.toml > tenants/pharmacy.toml; }

block=$(awk '/<!-- second screen/ {found=1} found && /^```bash/ {inside=1; next} /^```/ {if (inside) exit} inside' README.md)
[ -n "$block" ] || { echo "README.md has no second-screen block." >&2; exit 1; }
printf '%s\n' "$block"
output=$(bash -euo pipefail -c "$block" 2>&1) || { printf '%s\n' "$output"; echo "README's second screen failed." >&2; exit 1; }
printf '%s\n' "$output"
grep -q "within 30 days" <<<"$output" || { echo "The answer is not from the user's own document." >&2; exit 1; }

answer=$(make ask 2>&1) || { printf '%s\n' "$answer"; echo "make ask failed." >&2; exit 1; }
printf '%s\n' "$answer"
grep -q "^  1  Reject 79" <<<"$answer" || { echo "The first source of make ask is not the document on code 79." >&2; exit 1; }
