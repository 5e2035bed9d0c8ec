"""The work list of recall in the receipt of a withdrawal."""

from __future__ import annotations

from pathlib import Path

from assistant.documents.withdraw import KeptTexts

KEPT = KeptTexts(places=Path(__file__).with_name("receipt_places.toml"))
