"""The knowledge stores of one tenant, as the use cases receive them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from assistant.ingesting.ports import DocumentStates, DocumentStore, IngestionQueue


class Intake(Protocol):
    """What adding documents needs of the stores."""

    @property
    def documents(self) -> DocumentStore: ...

    @property
    def states(self) -> DocumentStates: ...

    @property
    def queue(self) -> IngestionQueue: ...


@dataclass(frozen=True, slots=True)
class IntakeStores:
    """The stores of a process that only adds documents."""

    documents: DocumentStore
    states: DocumentStates
    queue: IngestionQueue


@dataclass(frozen=True, slots=True)
class KnowledgeStores:
    documents: DocumentStore
    states: DocumentStates
    queue: IngestionQueue
    """Ids of documents to bring into the index."""
    withdrawals: IngestionQueue
    """Ids to take out of it: a queue of its own, so that no backlog of documents delays a withdrawal."""
