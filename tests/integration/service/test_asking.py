"""Asking over real HTTP: the stream, the whole answer, what goes wrong before and after the first event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from assistant.documents.files import SourceDocument
from assistant.documents.page import Page, Paragraph, plain
from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSource, Writer
from assistant.domain.clock import SystemClock
from assistant.domain.documents import Document, DocumentState
from assistant.service.stored import MOST
from assistant.stores.documents import KnowledgeStores
from assistant.tenant.tenant import default_source
from tests.stage.running_service import (
    DIGEST,
    DIMENSIONS,
    RunningService,
    events_of,
    eventually,
    running_service,
)
from tests.stage.tenant_stores import TenantStores

STREAM = "text/event-stream"


async def test_the_record_keeps_the_variant_that_wrote(service: RunningService) -> None:
    answer_id = (await service.answered())["answer_id"]
    stored = await service.call("GET", f"/v1/answers/{answer_id}")
    assert stored.json()["record"]["variant"] == "AllTraffic"


async def test_the_whole_answer_holds_what_the_stream_holds(service: RunningService) -> None:
    whole = await service.answered()
    events = dict(events_of((await service.ask(accept=STREAM)).text))
    assert whole["text"] == "Wait two days."
    assert whole["finish_reason"] == events["done"]["finish_reason"]
    assert whole["citations"] == events["done"]["citations"]
    assert [source["document_id"] for source in whole["sources"]] == ["wait"]
    assert len(whole["sentences"]) == 1


async def test_what_each_page_of_a_document_says_stands_beside_its_quote(service: RunningService) -> None:
    page = Page((Paragraph(plain("The wait is two days.")),), banner="SUPERSEDED since 1 March")
    await service.know("wait", page.to_bytes().decode(), media_type="application/vnd.page+json")
    await service.know("other", "The wait in Ohio is two days.")
    whole = await service.answered()
    banners = {source["document_id"]: source.get("banner") for source in whole["sources"]}
    assert banners == {"wait": "SUPERSEDED since 1 March", "other": None}


async def test_over_the_agent_s_share_is_429_before_any_model_call(service: RunningService) -> None:
    service.sagemaker.stall_after = 1
    asking = [asyncio.create_task(service.ask(accept=STREAM)) for _ in range(3)]
    await service.sagemaker.generation(3)
    refused = await service.ask("Which question is refused?")
    assert (refused.status_code, refused.json()["code"]) == (429, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    assert all("refused" not in str(call.body) for call in service.sagemaker.embeddings)
    other = asyncio.create_task(service.ask(agent="bob", accept=STREAM))
    await service.sagemaker.generation(4)
    for task in (*asking, other):
        task.cancel()
    await asyncio.wait([*asking, other])
    service.sagemaker.stall_after = None
    await service.idle()
    assert (await service.ask()).status_code == 200


@pytest.mark.parametrize(
    ("path", "name", "body"),
    [
        ("verdict", "verdict_id", {"label": "bad"}),
        ("sent", "send_id", {"text": "Two days."}),
        ("acts", "act_id", {"kind": "possibly_taken"}),
    ],
)
async def test_one_answer_takes_a_bounded_number_of_what_is_said_of_it_and_repetitions_of_these(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, path: str, name: str, body: dict[str, Any]
) -> None:
    monkeypatch.setattr("assistant.service.stored.MOST", dict.fromkeys(MOST, 2))
    answer, other = [(await service.answered())["answer_id"] for _ in range(2)]

    async def put(number: int, to: str = answer) -> int:
        given = {name: f"id-{number}", **body}
        return (await service.call("POST", f"/v1/answers/{to}/{path}", json=given)).status_code

    assert [await put(number) for number in (0, 1, 2, 3, 0)] == [200, 200, 409, 409, 200]
    assert await put(2, to=other) == 200


# --- a chat ---

TURNS = [
    {"who": "customer", "text": "hi there", "at": "2026-03-14T09:00:00Z"},
    {"who": "agent", "text": "Hello Mo, may I have your birthday?"},
    {"who": "customer", "text": "6/1/1970"},
    {"who": "system", "text": "Mo is typing"},
    {"who": "customer", "text": "How long is the wait for a plaster?"},
]


async def recorded(service: RunningService, body: dict[str, Any]) -> dict[str, Any]:
    response = await service.call("POST", "/v1/answers", json=body)
    assert response.status_code == 200, response.text
    stored = await service.call("GET", f"/v1/answers/{response.json()['answer_id']}")
    return stored.json()["record"]


async def test_the_customers_words_are_searched_and_the_whole_chat_is_read(service: RunningService) -> None:
    record = await recorded(service, {"turns": TURNS})
    assert "How long is the wait for a plaster?" in record["question"]
    for kept in (record["question"], record["retrieval_question"], str(record["reading"])):
        assert "birthday" not in kept
        assert "typing" not in kept
    told = str(service.sagemaker.generations[-1].body)
    assert told.index("may I have your birthday?") < told.index("How long is the wait for a plaster?")


async def test_the_agents_question_is_searched_beside_the_customers_words(service: RunningService) -> None:
    record = await recorded(service, {"question": "Does a splint need a wait?", "turns": TURNS})
    *words, own = record["question"].split("\n")
    assert (words[-1], own) == ("How long is the wait for a plaster?", "Does a splint need a wait?")


SOURCE = KnowledgeSource(default_source(), ())
NAME = default_source().name


@asynccontextmanager
async def stores_of(service: RunningService) -> AsyncIterator[TenantStores]:
    folder = service.state_dir / "tenants" / "clinic"
    stores = TenantStores(
        folder, embedding_model="tiny-embedding", dimensions=DIMENSIONS, model_digest=DIGEST
    )
    yield stores
    await stores.close()


async def receive(service: RunningService, *names: str) -> None:
    """Bring documents that no worker indexes."""
    items = [
        SourceDocument(Document(document_id=name, title=name, content=name, media_type="text/plain"), name)
        for name in names
    ]
    async with stores_of(service) as stores:
        knowledge = KnowledgeStores(stores.documents, stores.states, stores.queue, stores.withdrawals)
        await AddDocuments(knowledge, clock=SystemClock())(items, source=SOURCE, writer=Writer("olga"))


async def certainty(service: RunningService, **who: Any) -> tuple[str | None, list[dict[str, Any]]]:
    answer = await service.answered(**who)
    return answer["certainty"], answer.get("loading", [])


async def test_answers_of_a_source_that_loads_for_the_first_time_are_possible(tmp_path: Any) -> None:
    async with running_service(tmp_path) as service:
        await receive(service, "wait", "b", "c")
        await service.know("wait", "The wait is two days.")
        loading = [{"reason": "first_load", "source": NAME, "live": 1, "expected": 3}]
        assert await certainty(service) == ("possibly", loading)
        refused = await service.answered(body={"filters": {"document_id": ["none"]}})
        assert (refused["finish_reason"], refused["loading"]) == ("no_evidence", loading)
        assert f"loading: 1 of 3 documents of {NAME}" in refused["reason"]
        for name in ("b", "c"):
            await service.know(name, f"About {name}.")
        assert await certainty(service) == ("answered", [])  # the same moment: an answer looks itself
        await receive(service, "d")
        assert await certainty(service) == ("answered", [])  # one more document of a complete source


async def test_an_answer_of_an_index_that_lost_a_document_is_possible(tmp_path: Any) -> None:
    async with running_service(tmp_path) as service:
        await service.know("wait", "The wait is two days.")
        await service.know("other", "Something else.")
        assert await certainty(service) == ("answered", [])
        async with stores_of(service) as stores:
            await stores.index.delete_documents(["other"])
            assert (await stores.states.count_by_state())[DocumentState.LIVE] == 2
        lost = [{"reason": "lost", "source": "", "live": 1, "expected": 2}]

        async def is_told() -> bool:
            return await certainty(service) == ("possibly", lost)

        await eventually(is_told, within_s=60)
