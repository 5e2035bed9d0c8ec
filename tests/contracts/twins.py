"""The implementations of the ports that the contract suite runs over: a new twin is added to TWINS here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from assistant.adapters.embedded.tenant import EmbeddedTenant
from assistant.answering.ports import AnswerRecords, PassageSearch
from assistant.ingesting.ports import DocumentStates, DocumentStore, IngestionQueue, PassageIndex

DIMENSIONS = 4
EMBEDDING_MODEL = "model-of-four"


class Twin(Protocol):
    """All stores of one tenant. Two twins of the same place are two processes' views of one tenant."""

    shortest_visibility_s: ClassVar[float]
    """The shortest visibility time-out that its queue takes."""

    def __init__(self, place: Path) -> None: ...
    @property
    def documents(self) -> DocumentStore: ...
    @property
    def states(self) -> DocumentStates: ...
    @property
    def queue(self) -> IngestionQueue: ...
    @property
    def withdrawals(self) -> IngestionQueue: ...
    @property
    def records(self) -> AnswerRecords: ...
    @property
    def index(self) -> PassageIndex: ...
    @property
    def search(self) -> PassageSearch: ...
    async def close(self) -> None: ...


class EmbeddedTwin(EmbeddedTenant):
    shortest_visibility_s: ClassVar[float] = 0.05

    def __init__(self, place: Path) -> None:
        super().__init__(place, embedding_model=EMBEDDING_MODEL, dimensions=DIMENSIONS)


TWINS: Mapping[str, type[Twin]] = {"embedded": EmbeddedTwin}
