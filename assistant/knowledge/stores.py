"""The knowledge stores of one tenant, as the use cases receive them."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.knowledge.ports import DocumentStates, DocumentStore, IngestionQueue


@dataclass(frozen=True, slots=True)
class KnowledgeStores:
    documents: DocumentStore
    states: DocumentStates
    queue: IngestionQueue
    """Ids of documents to bring into the index."""
    withdrawals: IngestionQueue
    """Ids to take out of it: a queue of its own, so that no backlog of documents delays a withdrawal."""
