"""A running service with cases on its desk, and the people who work there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from assistant.domain.answers import VerdictLabel
from assistant.domain.desk import CaseReason, case_id
from assistant.options.desk.cases import DeskServices
from assistant.options.desk.events import Edit, FeedbackEvent, FeedbackKind, ShownDocument
from assistant.options.desk.intake import OpenCases
from assistant.options.desk.sweep import RecallSweep
from assistant.text.language import language
from tests.stage.running_service import RunningService, Scene, running_service

SOURCES = """
[[sources]]
name = "handbook"
access = "everyone"
namespace = ""
writers = { agents = ["olga"] }
[[sources]]
name = "wiki"
access = "everyone"
writers = { agents = ["wim"] }
"""
HIPAA = """
[deployment]
account = "111122223333"
region = "us-east-1"
zones = ["us-east-1a", "us-east-1b"]
profile = "hipaa"
cost_center = "care"
"""
NEXT_YEAR = (datetime.now(UTC) + timedelta(days=365)).date().isoformat()


def feedback(
    answer_id: str, kind: FeedbackKind, *, documents: Sequence[str] = (), **more: Any
) -> FeedbackEvent:
    """Return an event as the mover makes it."""
    now = datetime.now(UTC)
    shown = tuple(
        ShownDocument(
            document_id=name, position=place, score=1.0, features={}, is_listed=True, is_quoted=place == 1
        )
        for place, name in enumerate(documents, start=1)
    )
    said: dict[str, Any] = {
        "event_id": "e" * 64,
        "kind": kind,
        "at": now,
        "tenant": "clinic",
        "answer_id": answer_id,
        "conversation": "c" * 32,
        "agent": "a" * 32,
        "asked_at": now,
        "documents": shown,
        "prompt_id": "answer/6",
        "model_id": "tiny-llm",
        "index_version": "1",
        "settings_hash": "s",
    }
    return FeedbackEvent(**(said | more))


def bad_verdict(answer_id: str, *documents: str, **more: Any) -> FeedbackEvent:
    label, reasons = VerdictLabel.BAD, ("wrong",)
    return feedback(
        answer_id, FeedbackKind.VERDICT, documents=documents, label=label, reasons=reasons, **more
    )


def fact_edit(answer_id: str, *documents: str, **more: Any) -> FeedbackEvent:
    edit = Edit(distance=2, words=9, changed_facts=("number",))
    return feedback(answer_id, FeedbackKind.SENT, documents=documents, edit=edit, **more)


@dataclass
class Desk:
    """The desk of a tenant of the running service, over HTTP."""

    service: RunningService
    tenant: str = "clinic"

    def reviewer(self, name: str = "rita", *labels: str) -> dict[str, str]:
        return self.service.headers(name, tenant=self.tenant, roles=["reviewer"], labels=labels)

    def owner(self, name: str = "olga", *labels: str) -> dict[str, str]:
        return self.service.headers(name, tenant=self.tenant, roles=["knowledge_owner"], labels=labels)

    async def get(self, path: str, who: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        return await self.service.client.get(
            f"/v1/desk/{path}", params=params, headers=who or self.reviewer()
        )

    async def post(self, path: str, body: Any, who: dict[str, str] | None = None) -> httpx.Response:
        return await self.service.client.post(f"/v1/desk/{path}", json=body, headers=who or self.reviewer())

    async def took(self, *events: FeedbackEvent) -> None:
        """Take events to the desk, as the mover does."""
        services = self.service.tenants[self.tenant].part(DeskServices)
        await OpenCases(
            services.store,
            records=services.records,
            language=language("en"),
            clock=services.clock,
            most_of_agent=services.open_cases_per_agent,
        ).take(events)

    async def case(
        self,
        *,
        labels: Sequence[str] = (),
        documents: Sequence[str] = ("wait",),
        better_text: str | None = "Three days.",
        question: str = "How long is the wait?",
    ) -> str:
        """Return the case of a new answer that its agent marked as bad."""
        answered = await self.service.answered(question=question, tenant=self.tenant, labels=labels)
        answer_id = answered["answer_id"]
        agent = self.service.headers(tenant=self.tenant, labels=labels)
        verdict = {"verdict_id": f"v-{answer_id}", "label": "bad", "better_text": better_text}
        path = f"/v1/answers/{answer_id}/verdict"
        assert (await self.service.client.post(path, json=verdict, headers=agent)).is_success
        await self.took(bad_verdict(answer_id, *documents, reader_labels=tuple(sorted(labels))))
        return case_id(answer_id, CaseReason.BAD_VERDICT)


def answer_of(*document_ids: str, **change: Any) -> dict[str, Any]:
    """Return the body of an approved answer."""
    said = {
        "questions": ["How long is the wait?"],
        "text": "The wait is **three** days.",
        "expires_on": NEXT_YEAR,
        "document_ids": list(document_ids),
    }
    return said | change


def resolution(kind: str, revision: int = 1, **made: Any) -> dict[str, Any]:
    return {"revision": revision, "kind": kind, **made}


@asynccontextmanager
async def desk_scene(folder: Path, *, two_people: bool = False, more: str = "") -> AsyncGenerator[Desk]:
    more = SOURCES + (HIPAA if two_people else "") + more
    async with running_service(folder, Scene(more_of_tenants=more, writes=False)) as service:
        await service.know("wait", "The wait is two days.")
        yield Desk(service)


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
