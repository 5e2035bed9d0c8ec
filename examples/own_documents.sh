#!/usr/bin/env bash
# A tenant of your own: its file, a folder of documents, a question, and a document withdrawn.
# Run it in a clone after `make setup`, with .venv/bin on the path. FROM is the tenant whose file is copied.
set -euo pipefail

mkdir -p my-shop
cat > my-shop/parking.md <<'DOCUMENT'
# Parking

Patients park free of charge for two hours in the yard behind the shop.
DOCUMENT
cat > my-shop/staff.md <<'DOCUMENT'
---
labels: [hr]
---
# Leave

Staff ask for leave three weeks ahead.
DOCUMENT

assistant tenant new my-shop --from "${FROM:-pharmacy}" --knowledge my-shop
assistant knowledge add --tenant my-shop
assistant ask --tenant my-shop "For how many hours do patients park free of charge?"

# An agent without the label `hr` does not see the second document.
assistant knowledge list --tenant my-shop

# A withdrawn document leaves the search, and its text leaves recorded answers and replays.
assistant knowledge withdraw parking --tenant my-shop --yes
echo "== asked again"
assistant ask --tenant my-shop "For how many hours do patients park free of charge?"
