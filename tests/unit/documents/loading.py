"""Loads a folder of files into a tenant's knowledge, and looks at what an agent finds of it."""

from __future__ import annotations

from pathlib import Path

from assistant.documents.receive import AddDocuments, AddSummary
from assistant.documents.sources import KnowledgeSource, Writer
from assistant.domain.audit import AccessEntry
from assistant.domain.clock import Deadline
from assistant.domain.documents import PassageQuery, SearchFilters
from assistant.tenant.tenant import SourceEntry
from tests.unit.documents.knowledge import HANDBOOK, LABELS, OLGA, Knowledge, vector_of
from tests.unit.documents.source_files import read

DECLARED = KnowledgeSource(
    SourceEntry(name="handbook", namespace="", access="declared"), labels=LABELS, vocabulary=LABELS
)


class Accesses:
    """Keeps what is recorded."""

    def __init__(self) -> None:
        self.entries: list[AccessEntry] = []

    async def record_access(self, entry: AccessEntry) -> None:
        self.entries.append(entry)


async def load(
    knowledge: Knowledge,
    folder: Path,
    *,
    writer: Writer = OLGA,
    accesses: Accesses | None = None,
    source: KnowledgeSource = HANDBOOK,
) -> AddSummary:
    add = AddDocuments(knowledge.knowledge_stores, clock=knowledge.clock, accesses=accesses)
    return await add(read(folder), source=source, writer=writer)


async def seen(knowledge: Knowledge, *labels: str) -> set[str]:
    """Return the documents that an agent with these labels finds."""
    query = PassageQuery(
        text="pay salary",
        vector=vector_of("pay"),
        filters=SearchFilters(),
        labels=frozenset(labels),
        size=100,
    )
    retrieved = await knowledge.stores.search.search(
        query, deadline=Deadline.after(60, clock=knowledge.clock)
    )
    return {ranked.passage.document_id for ranked in retrieved.passages}
