"""Approved answers in the receipt of a withdrawal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from assistant.documents.withdraw import KeptTexts, Stores
from assistant.options.desk.upkeep import ApprovedTexts
from assistant.stores.desk import DESK


async def _counts(stores: Stores, document_id: str) -> Mapping[str, int]:
    resting = await ApprovedTexts(await stores.of(DESK)).resting()
    return {"approved_answers": len(resting.get(document_id, []))}


async def _remove(stores: Stores, document_id: str) -> int:
    return await ApprovedTexts(await stores.of(DESK)).remove(document_id)


KEPT = KeptTexts(
    places=Path(__file__).with_name("receipt_places.toml"),
    counts=_counts,
    remove=_remove,  # else the service does, when it runs
)
