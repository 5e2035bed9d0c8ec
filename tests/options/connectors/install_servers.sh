#!/usr/bin/env bash
# Debian's PostgreSQL and MediaWiki, where they are not there yet.
set -euo pipefail
[ -x /usr/lib/postgresql/15/bin/initdb ] && [ -d /usr/share/mediawiki ] && command -v php >/dev/null && exit 0
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql mediawiki php-cli php-sqlite3 >/dev/null
