"""How many calls to AWS one question makes, and how many of them wait for one another.

The proxies before the dependencies hold the calls of a question in rounds: a round goes on when all of it has
come, so that a call of a later round waits for one of the round before it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.conftest import TENANT, Answered, FaultScene, ServiceProcess, asked, fault_scene, warmed_up
from tests.stage.faulty_proxy import Fault, Kind, Request
from tests.stage.running_service import eventually

QUESTION = "How long is the wait at the counter?"
NOT_HELD = {None, "record"}
"""What is known is written when the answer begins, beside the model's call, and the record after its text."""


def name_of(request: Request) -> str | None:
    """Return what a call is to a question; None for those of the service's own, in the background."""
    target = request.headers.get("x-amz-target", "").rpartition(".")[2]
    if "-embedding/" in request.path:
        return "embed"
    if "-llm/" in request.path:
        return "model"
    if "_search?search_pipeline" in request.path:
        return "search" if b"counter" in request.body else None
    if "_search?allow_partial" in request.path:
        return "read"
    if target == "Query" and b"conversation#" not in request.body:
        return None  # of what runs beside questions: counted days, and sent replies that may be recalled
    if b"-clinic-records" in request.body:
        return {"PutItem": "begun", "TransactWriteItems": "record", "Query": "conversation"}.get(
            target, "turns"
        )
    if b"-clinic-states" in request.body and target == "GetItem":
        return "state of a source"
    return "text of a source" if request.path.count("/documents/") and request.method == "GET" else None


def _put_items(request: Request) -> str:
    """Return what a transaction writes, without the token of its call."""
    return json.dumps(json.loads(request.body)["TransactItems"], sort_keys=True)


async def ended(answer: Answered, service: ServiceProcess) -> str:
    """Return how an answer ended, when its record is written: a busy emulator may outlast its timeout."""
    said = answer.told()
    if said.endswith(", `recorded` false"):
        await eventually(lambda: "answer_record_followed" in service.log_path.read_text())
    return said.removesuffix(", `recorded` false")


@dataclass
class Rounds:
    """Holds the calls of a question until all of a round have come."""

    scene: FaultScene
    came: list[Request] = field(default_factory=list[Request])
    _before: int = 0

    async def begin(self) -> None:
        self.came.clear()
        self._before = 0
        for proxy in self.scene.proxies.values():
            proxy.requests = self.came
        await self._hold()

    def names(self) -> list[str]:
        """Return what was called. A write of a record counts once: a busy emulator outlasts its timeout, and
        it is written again."""
        written = {_put_items(request): "record" for request in self.came if name_of(request) == "record"}
        called = [name for name in map(name_of, self.came) if name is not None and name != "record"]
        return called + list(written.values())

    async def next(self, count: int) -> list[str]:
        """Return the names of the next round, in which so many calls come, and let them go on."""
        await eventually(lambda: len(self._held()) >= count)
        held = self._held()
        self._before += len(held)
        await self._hold()
        return sorted(held)

    def _held(self) -> list[str]:
        return [name for name in self.names() if name not in NOT_HELD][self._before :]

    async def _hold(self) -> None:
        """Let go what is held, and hold what comes next."""
        fault = Fault(Kind.HOLD, lambda request: name_of(request) not in NOT_HELD)
        for proxy in self.scene.proxies.values():
            await proxy.break_by(fault)


@pytest.fixture
async def scene(aws_server_url: str, opensearch_url: str, tmp_path: Path) -> AsyncIterator[FaultScene]:
    async with fault_scene(tmp_path, aws_url=aws_server_url, opensearch_url=opensearch_url) as made:
        yield made


async def in_rounds(
    rounds: Rounds, service: ServiceProcess, counts: list[int], **body: str
) -> tuple[Answered, list[list[str]]]:
    await rounds.begin()
    asking = asyncio.create_task(asked(service, question=QUESTION, resume_window_s=5, **body))
    try:
        held = [await rounds.next(count) for count in counts]
        answer = await asking
    finally:
        asking.cancel()
        for proxy in rounds.scene.proxies.values():
            await proxy.heal()
    return answer, held


async def test_a_warm_question_waits_for_four_calls_and_a_follow_up_for_six(scene: FaultScene) -> None:
    async with scene.service() as service:
        await warmed_up(service)
        await scene.aws.know("counter", "The wait at the counter is two days.", tenant=TENANT)
        rounds = Rounds(scene)

        first, held = await in_rounds(rounds, service, [1, 1, 1, 2])
        assert held == [
            ["embed"],
            ["search"],
            ["read"],
            ["embed", "model"],
        ]  # vectors of a new document's units
        assert await ended(first, service) == "`done` `stop`"
        assert Counter(rounds.names()) == Counter(embed=2, search=1, read=1, model=1, record=2)

        conversation = first.events[0][1]["conversation_id"]
        again, held = await in_rounds(rounds, service, [1, 1, 3, 2, 1, 1], conversation_id=conversation)
        assert held == [
            ["conversation"],
            ["turns"],
            ["embed", "state of a source", "text of a source"],  # earlier turns are read beside the steps
            ["model", "search"],  # the model reads the conversation
            ["read"],
            ["model"],
        ]
        assert await ended(again, service) == "`done` `stop`"
        assert len(rounds.names()) == 11
