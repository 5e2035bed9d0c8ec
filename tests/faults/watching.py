"""What one fault leaves behind: calls of the model, records, log lines, figures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.fakes.running_service import eventually
from tests.faults.asking import Answered, asked, headers, idle
from tests.faults.dependencies import LLM, Dependency
from tests.faults.scene import WRITTEN, FaultScene, ServiceProcess
from tests.faults.table import Row, tell

_FOLLOWS_WITHIN_S = 60.0
"""A record is tried again after 0.5, 1, 2, … s."""


@dataclass
class Watch:
    """Counts from the moment it is made."""

    scene: FaultScene
    service: ServiceProcess
    _log_from: int
    _figures: dict[str, float]
    _records: frozenset[str]
    _calls: int

    @classmethod
    async def begun(cls, scene: FaultScene, service: ServiceProcess) -> Watch:
        records = frozenset(record["answer_id"] for record in await scene.records())
        calls = calls_of(scene, LLM)
        return cls(scene, service, service.log_size(), await service.figures(), records, calls)

    @property
    def calls_of_the_model(self) -> int:
        """Requests to the LLM endpoint, answered or not: a second try would be one too."""
        return calls_of(self.scene, LLM) - self._calls

    async def new_records(self) -> list[dict[str, Any]]:
        return [record for record in await self.scene.records() if record["answer_id"] not in self._records]

    async def recorded(self, answer: Answered | None = None) -> str:
        """Say what the store has of the answer, or that it has nothing new at all."""
        found = await self.new_records()
        if answer is None or not answer.events:
            assert found == [], "something was recorded of an answer that never began"
            return "nothing"
        mine = [record for record in found if record["answer_id"] == answer.answer_id]
        if not mine:
            return "not yet"
        assert len(mine) == 1, f"recorded {len(mine)} times"
        return _described(mine[0])

    async def follows(self, answer: Answered) -> str:
        """Wait until the record of an answer is there, and say what it is."""
        await eventually(lambda: self._is_recorded(answer.answer_id), within_s=_FOLLOWS_WITHIN_S)
        return await self.recorded(answer)

    async def logged(self, event: str) -> str:
        """Wait until the service has logged this, and return how the table names it."""
        await eventually(lambda: event in self.events_logged(), within_s=_FOLLOWS_WITHIN_S)
        return f"`{event}`"

    def events_logged(self) -> set[str]:
        return {str(line.get("event")) for line in self.service.logged(self._log_from)}

    async def counted(self, name: str) -> str:
        """Wait until this figure has grown, and return how the table names it."""

        async def has_grown() -> bool:
            return (await self.service.figures()).get(name, 0.0) > self._figures.get(name, 0.0)

        await eventually(has_grown, within_s=_FOLLOWS_WITHIN_S)
        return f"`{name}`"

    async def _is_recorded(self, answer_id: str) -> bool:
        return any(record["answer_id"] == answer_id for record in await self.scene.records())


def calls_of(scene: FaultScene, dependency: Dependency) -> int:
    """Return how many requests came for a dependency that has a mark."""
    requests = scene.proxies[dependency.address].requests
    return sum(dependency.is_of(request) for request in requests)


def refused(code: str) -> str:
    """Return the figure of questions that were answered with a status."""
    return f'assistant_answers_refused_total{{code="{code}"}}'


def ended(finish_reason: str) -> str:
    """Return the figure of answers that ended so."""
    return f'assistant_answers_total{{finish_reason="{finish_reason}",tenant="clinic"}}'


def fell_back(code: str) -> str:
    """Return the figure of answers whose written text a quote replaced."""
    return f'assistant_answer_fallbacks_total{{fallback="{code}",tenant="clinic"}}'


def tell_of(
    dependency: Dependency,
    fault: str,
    *,
    made_by: str,
    sees: str,
    recorded: str,
    log: str = "none",
    figure: str,
) -> None:
    tell(Row(dependency.name, fault, made_by, sees, recorded, log, figure))


def _described(record: dict[str, Any]) -> str:
    if record["kind"] == "interrupted" and record["outcome"] != "done":
        assert record["passages"]
        return "`interrupted`, with its sources, without text"
    ending = record["finish_reason"] or record["error_code"]
    fallback = f", `fallback` `{record['fallback']}`" if record["fallback"] else ""
    return f"`{record['outcome']}` `{ending}`{fallback}"


@asynccontextmanager
async def watched(
    scene: FaultScene, service: ServiceProcess, *, who: Callable[[], dict[str, str]] = headers
) -> AsyncGenerator[Watch]:
    """Watch one fault. In the end everything is up again; the next question must be answered and recorded,
    and no record may be there twice."""
    yield await Watch.begun(scene, service)
    await scene.heal()
    scene.sagemaker.hold = None
    await idle(service)
    after = await Watch.begun(scene, service)
    answer = await asked(service, who=who())
    assert (answer.status, answer.told(), answer.written) == (200, "`done` `stop`", WRITTEN), answer.body
    assert await after.recorded(answer) == "`done` `stop`"
    assert after.calls_of_the_model == 1
    ids = [(record["answer_id"], record["kind"]) for record in await scene.records()]
    assert len(ids) == len(set(ids))
