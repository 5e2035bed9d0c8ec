#!/usr/bin/env bash
# The programs that some tests need, from Debian, where they are not there yet: tesseract with English reads scans,
# PostgreSQL and MediaWiki are sources of documents, Chromium shows the console. Pass names to install these alone.
set -euo pipefail
[ $# -gt 0 ] || set -- tesseract servers chromium

packages=()
for name in "$@"; do
  case $name in
    tesseract) command -v tesseract >/dev/null || packages+=(tesseract-ocr) ;;
    chromium) command -v chromium >/dev/null || packages+=(chromium) ;;
    servers)
      { [ -x /usr/lib/postgresql/15/bin/initdb ] && [ -d /usr/share/mediawiki ] && command -v php >/dev/null; } ||
        packages+=(postgresql mediawiki php-cli php-sqlite3) ;;
    *) echo "Unknown: $name. Name tesseract, servers or chromium." >&2; exit 1 ;;
  esac
done
[ ${#packages[@]} -gt 0 ] || exit 0
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
$sudo apt-get update -qq
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
