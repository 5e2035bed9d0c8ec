"""The implementations of the ports that the contract suite runs over: a new twin is added to TWINS here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from assistant.adapters.embedded.answer_log import SqliteAnswerLog
from assistant.adapters.embedded.tenant import EmbeddedTenant
from assistant.answering.ports import AnswerLog, AnswerRecords, PassageSearch
from assistant.domain.clock import Clock
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
    def log(self) -> AnswerLog: ...
    def log_by(self, clock: Clock) -> AnswerLog:
        """Return the same event log as a process sees it whose clock is ``clock``."""
        ...

    @property
    def index(self) -> PassageIndex: ...
    @property
    def search(self) -> PassageSearch: ...
    async def close(self) -> None: ...


class EmbeddedTwin(EmbeddedTenant):
    shortest_visibility_s: ClassVar[float] = 0.05

    def __init__(self, place: Path) -> None:
        super().__init__(place, embedding_model=EMBEDDING_MODEL, dimensions=DIMENSIONS)
        self._place = place
        self._other_logs: list[SqliteAnswerLog] = []

    def log_by(self, clock: Clock) -> SqliteAnswerLog:
        self._other_logs.append(SqliteAnswerLog(self._place / "events.sqlite", clock=clock))
        return self._other_logs[-1]

    async def close(self) -> None:
        for log in self._other_logs:
            await log.close()
        await super().close()


TWINS: Mapping[str, type[Twin]] = {"embedded": EmbeddedTwin}
