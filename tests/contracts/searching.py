"""Writes passages into a twin's index, and searches it."""

from __future__ import annotations

from collections.abc import Sequence

from assistant.domain.documents import Passage, PassageQuery, Retrieved
from tests.contracts import samples
from tests.contracts.twins import Twin


async def put(twin: Twin, *entries: tuple[Passage, Sequence[float]]) -> None:
    """Index each passage's document with the given passages."""
    await twin.index.replace_documents(samples.documents_of(*entries))


async def search(twin: Twin, asked: PassageQuery) -> Retrieved:
    return await twin.search.search(asked, deadline=samples.soon())


async def found_ids(twin: Twin, asked: PassageQuery) -> list[str]:
    return [ranked.passage.document_id for ranked in (await search(twin, asked)).passages]
