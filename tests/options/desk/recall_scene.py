"""A running service whose agents send replies, and the sweep that finds which of them fell."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.options.desk.sweep import RecallSweep
from tests.fakes.running_service import RunningService
from tests.options.desk.desk_scene import Desk, desk_scene

PLAIN_IDS = '[care_context]\nissuer = "https://care.test"\nplain_ids = true\n'
WAIT = "The wait is two days.\n\nThe desk opens at 8:00."


@dataclass
class RecallScene:
    desk: Desk
    service: RunningService

    @property
    def sweep(self) -> RecallSweep:
        return self.service.tenants["clinic"].part(RecallSweep)

    async def sent(
        self,
        send_id: str,
        *,
        question: str = "How long is the wait?",
        agent: str = "ann",
        labels: Sequence[str] = (),
        context: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return an answer whose agent sent a reply. ``context``: plain ids, with ``PLAIN_IDS``."""
        body = {} if context is None else {"context": context}
        answer = await self.service.answered(agent=agent, question=question, labels=labels, body=body)
        text = f"Sent as {send_id}."
        await self.service.send_anyway(answer["answer_id"], text, send_id=send_id, agent=agent, labels=labels)
        return answer

    async def get(self, path: str = "", who: dict[str, str] | None = None, **params: Any) -> Any:
        headers = who or self.desk.reviewer()
        response = await self.service.client.get(f"/v1/recalls{path}", params=params, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()

    async def listed(self, who: dict[str, str] | None = None, **params: Any) -> list[dict[str, Any]]:
        return (await self.get(who=who, **params))["recalls"]

    async def changes(self, who: dict[str, str] | None = None) -> list[dict[str, Any]]:
        return (await self.get("/changes", who=who))["changes"]

    async def decide(self, item_id: str, who: dict[str, str] | None = None, **body: Any) -> Any:
        headers = who or self.desk.reviewer()
        return await self.service.client.post(f"/v1/recalls/{item_id}", json=body, headers=headers)


@asynccontextmanager
async def recall_scene(
    folder: Path, *, two_people: bool = False, more: str = ""
) -> AsyncGenerator[RecallScene]:
    async with desk_scene(folder, two_people=two_people, more=more) as desk:
        scene = RecallScene(desk, desk.service)
        await scene.service.know("wait", WAIT)
        yield scene
