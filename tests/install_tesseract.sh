#!/usr/bin/env bash
# Debian's tesseract with English, where it is not there yet: it reads scanned pages.
set -euo pipefail
command -v tesseract >/dev/null && exit 0
sudo=""
[ "$(id -u)" -eq 0 ] || sudo="sudo"
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends tesseract-ocr >/dev/null
