"""The tools by the SDK's own client, over real HTTP: the same answers under the same rules."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.domain.audit import AccessQuery
from assistant.domain.clock import SystemClock
from tests.fakes.running_service import TWO_SENTENCES, RunningService, service_of_two
from tests.options.mcp.scene import PATH, message, post, text_of, tool_service, use, using

LINES = "\n".join(f"Shelf {number} holds {'jars and ' * 60}lids." for number in range(1, 101))
WAIT = "How long is the wait?"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with tool_service(tmp_path) as service:
        yield service


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_lists_the_tools_and_none_writes(service: RunningService, mode: str) -> None:
    async with using(service, mode=mode) as client:
        tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == ["answer", "search", "open_document"]
    for tool in tools:
        assert tool.description
        assert tool.annotations is not None
        assert (tool.annotations.read_only_hint, tool.annotations.destructive_hint) == (True, False)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_answer_has_numbered_sources_and_a_record(service: RunningService, mode: str) -> None:
    async with using(service, mode=mode) as client:
        text = await use(client, "answer", question=WAIT)
    said, sources, ids = text.split("\n\n")
    assert said == "Wait two days. [1]"
    assert sources == "Sources:\n[1] Title of wait (document_id wait, start 0)"
    answer_id = ids.split()[1].rstrip(",")
    response = await service.client.get(f"/v1/answers/{answer_id}", headers=service.headers())
    record = response.json()["record"]
    assert (record["question"], record["text"], record["agent"]) == (WAIT, "Wait two days.", "ann")


async def test_a_conversation_goes_on_by_its_id_and_no_other_agent_s(service: RunningService) -> None:
    async with using(service) as client:
        first = await use(client, "answer", question=WAIT)
        conversation = first.rpartition("conversation_id ")[2]
        second = await use(client, "answer", question="And by mail?", conversation_id=conversation)
    assert second.endswith(f"conversation_id {conversation}")
    assert "Wait two days." in str(service.sagemaker.generations[-1].body)
    async with using(service, agent="bob") as client:
        others = await use(client, "answer", question="And by mail?", conversation_id=conversation)
    assert "(not_found)" in others


async def test_where_nothing_is_known_it_says_so_as_an_answer_does(service: RunningService) -> None:
    nowhere = {"filters": {"source": ["nowhere"]}}
    whole = (await service.ask(body=nowhere)).json()
    async with using(service) as client:
        text = await use(client, "answer", question=WAIT, **nowhere)
        found = await use(client, "search", query=WAIT, **nowhere)
    assert whole["finish_reason"] == "no_evidence"
    assert text.startswith(f"{whole['reason']}\n\nanswer_id ")
    assert found == "No document is near, among those that you may read."


async def test_a_search_has_passages_and_asks_no_model(service: RunningService) -> None:
    async with using(service) as client:
        text = await use(client, "search", query="the wait")
    assert text == "[1] Title of wait (document_id wait, start 0)\nThe wait is two days."
    assert service.sagemaker.generations == []


async def test_a_document_opens_at_a_line_or_a_passage_and_goes_on(service: RunningService) -> None:
    await service.know("shelves", LINES)
    async with using(service) as client:
        at_line = (await use(client, "open_document", document_id="shelves", line=40)).split("\n")
        at_passage = await use(client, "open_document", document_id="shelves", start=LINES.index("40"))
        number = int(at_line[-1].rpartition(" ")[2].rstrip("."))
        rest = (await use(client, "open_document", document_id="shelves", start=number)).split("\n")
        behind = await use(client, "open_document", document_id="shelves", line=101)
    assert at_line[0] == "Title of shelves (shelves)"
    assert at_line[1].startswith("40: Shelf 40 holds jars")
    assert "\n".join(at_line) == at_passage
    last = int(at_line[-2].partition(":")[0])
    assert rest[1].startswith(f"{last + 1}: Shelf {last + 1} ")
    assert behind == f"failed: The document has 100 lines and {len(LINES)} characters. (invalid_request)"


async def test_a_document_of_one_long_line_is_read_in_parts(service: RunningService) -> None:
    text = "".join(f"word{number} " for number in range(4_000))
    await service.know("long", text)
    read, start = "", 0
    async with using(service) as client:
        while True:
            shown = await use(client, "open_document", document_id="long", start=start)
            body, _, more = shown.partition("\n1: ")[2].partition("\nThe document goes on")
            seen = len(read) - max(0, start - 1_000)
            read += body[seen:]
            if not more:
                break
            start = int(more.rpartition(" ")[2].rstrip("."))
    assert read.strip() == text.strip()


async def test_what_was_read_is_in_the_audit(service: RunningService) -> None:
    async with using(service) as client:
        await use(client, "answer", question=WAIT)
        await use(client, "search", query="the wait")
        await use(client, "open_document", document_id="wait")
    now = SystemClock().now()
    query = AccessQuery(since=now.replace(hour=0, minute=0), until=now, document_id="wait", limit=10)
    page = await service.tenants["clinic"].answering.records.list_accesses(query)
    assert [entry.kind for entry in page.entries] == ["asked", "asked", "document"]


async def test_a_question_counts_against_the_rate_of_questions(tmp_path: Path) -> None:
    async with tool_service(tmp_path, per_minute=3) as service:
        for _ in range(3):
            assert (await service.ask()).status_code == 200
        refused = text_of(await post(service, message("answer", question=WAIT)))
        found = text_of(await post(service, message("search", query="wait")))
        opened = text_of(await post(service, message("open_document", document_id="wait")))
        over = await post(service, message("open_document", document_id="wait"))
    assert refused.startswith("failed: ")
    assert refused.endswith("(overloaded)")
    assert found.endswith("(overloaded)")
    assert "The wait is two days." in opened
    assert over.status_code == 429, "a message counts as a read"


async def test_an_answer_takes_a_place_of_its_agent(tmp_path: Path) -> None:
    async with tool_service(tmp_path, streams_per_agent=1) as service:
        service.sagemaker.generation_fault = "silent"
        first = asyncio.create_task(post(service, message("answer", question=WAIT)))
        await service.sagemaker.generation()
        assert text_of(await post(service, message("answer", question=WAIT))).endswith("(overloaded)")
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
async def test_a_client_that_leaves_ends_its_answer(service: RunningService, version: str) -> None:
    service.sagemaker.texts = TWO_SENTENCES
    service.sagemaker.stall_after = 2
    headers = {"mcp-protocol-version": version, "mcp-method": "tools/call", "mcp-name": "answer"}
    about = "io.modelcontextprotocol/"
    body: Any = message("answer", question=WAIT)
    body["params"]["_meta"] = {f"{about}protocolVersion": version, f"{about}clientCapabilities": {}}
    asked = asyncio.create_task(post(service, body, headers=headers))
    call = await service.sagemaker.generation()
    asked.cancel()
    await asyncio.wait([asked])
    await asyncio.wait_for(call.left.wait(), 8)
    await service.idle()


async def test_a_tenant_without_the_key_serves_none(tmp_path: Path) -> None:
    async with service_of_two(tmp_path) as service:
        response = await post(service, message("search", query="wait"))
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_there_is_no_session_to_wait_for_or_to_end(service: RunningService, method: str) -> None:
    headers = service.headers(accept="text/event-stream") | {"mcp-session-id": "s1"}
    response = await service.client.request(method, PATH, headers=headers)
    assert response.status_code == 405


IMPORTED = """
import asyncio, pathlib, sys
from assistant.service import __main__
from assistant.service.app import build_routes
build_routes()
print("mcp" in sys.modules)
"""


def test_a_service_that_serves_no_tools_does_not_import_the_sdk() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


async def test_responses_are_private(service: RunningService) -> None:
    response = await post(service, message("search", query="wait"))
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert orjson.loads(response.content)["id"] == 1
