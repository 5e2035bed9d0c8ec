"""Feedback and captured calls in the receipt of a withdrawal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from assistant.documents.receipt import KeptTexts, Stores
from assistant.domain.acts import DOCUMENT_SUBJECT
from assistant.stores.erasure import ERASURE_KEYS


async def _counts(stores: Stores, document_id: str) -> Mapping[str, int]:
    subject, keys = f"{DOCUMENT_SUBJECT}{document_id}", await stores.of(ERASURE_KEYS)
    return {"feedback": int((await keys.destroyed([subject])).get(subject) is None)}


KEPT = KeptTexts(places=Path(__file__).with_name("receipt_places.toml"), counts=_counts)
