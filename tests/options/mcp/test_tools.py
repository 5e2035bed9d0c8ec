"""The tools by the SDK's own client, over real HTTP: the same answers under the same rules."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from assistant.client import AssistantClient, Patience
from assistant.domain.audit import AccessQuery
from assistant.domain.clock import SystemClock
from assistant.options.mcp.commands import pass_on
from tests.options.mcp.scene import PATH, message, post, text_of, tool_service, use, using
from tests.stage.running_service import TWO_SENTENCES, RunningService, eventually, service_of_two

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


async def test_responses_are_private(service: RunningService) -> None:
    response = await post(service, message("search", query="wait"))
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert orjson.loads(response.content)["id"] == 1


ROOT = Path(__file__).parents[3]


def token_of(service: RunningService, **who: Any) -> str:
    return service.headers(**who)["authorization"].removeprefix("Bearer ")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_starts_the_command_and_uses_the_tools(service: RunningService, mode: str) -> None:
    assert service.settings is not None
    tenants = ("--tenants", str(service.settings.tenants_dir))
    command = StdioServerParameters(
        command=sys.executable,
        args=[
            "-m",
            "assistant.cli.main",
            *tenants,
            "mcp",
            *("--tenant", "clinic"),
            *("--service", service.url),
        ],
        env=dict(os.environ) | {"ASSISTANT_LOCAL_SERVICE_TOKEN": token_of(service), "PYTHONPATH": str(ROOT)},
    )
    async with Client(stdio_client(command), mode=mode) as client:
        assert len((await client.list_tools()).tools) == 3
        assert (await use(client, "answer", question=WAIT)).startswith("Wait two days. [1]")
        assert "The wait is two days." in await use(client, "open_document", document_id="wait")


class Line:
    """The two ends of a relay, which runs inside the block and gets the end of its input after it."""

    def __init__(self, service: RunningService, *, token: str) -> None:
        self.given, self.said = SimpleQueue[bytes](), list[dict[str, Any]]()
        patience = Patience(attempts=1)
        self.relay = partial(
            pass_on,
            lambda: AssistantClient(service.url, token=token, patience=patience),
            read=self.given.get,
            write=self.said.append,
        )

    async def __aenter__(self) -> Line:
        self.running = asyncio.create_task(self.relay())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.given.put(b"")  # else a thread waits for the next line
        await self.running

    def give(self, *messages: Any) -> None:
        for given in messages:
            self.given.put(given if isinstance(given, bytes) else orjson.dumps(given) + b"\n")

    async def count(self, number: int) -> None:
        await eventually(lambda: len(self.said) >= number)


async def test_a_line_that_is_no_request_is_refused_and_the_next_one_served(service: RunningService) -> None:
    async with Line(service, token=token_of(service)) as line:
        line.give(b"no JSON\n", b"[]\n", {"jsonrpc": "2.0", "method": "notifications/initialized"})
        line.give(message("search", query="wait"))
        await line.count(3)
    assert [said["error"]["code"] for said in line.said[:2]] == [-32700, -32700]
    assert "The wait is two days." in line.said[2]["result"]["content"][0]["text"]


async def test_a_refusal_of_the_service_is_the_request_s_error(service: RunningService) -> None:
    async with Line(service, token="none") as line:
        line.give(message("search", query="wait"))
        await line.count(1)
    assert (line.said[0]["id"], line.said[0]["error"]["code"]) == (1, -32603)
    assert "sign in again" in line.said[0]["error"]["message"]


@pytest.mark.parametrize("ends_by", ["cancelled", "end of input"])
async def test_a_client_that_cancels_or_ends_ends_its_answer(service: RunningService, ends_by: str) -> None:
    service.sagemaker.generation_fault = "silent"
    async with Line(service, token=token_of(service)) as line:
        line.give(message("answer", question=WAIT))
        call = await service.sagemaker.generation()
        if ends_by == "cancelled":
            line.give({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
            await asyncio.wait_for(call.left.wait(), 8)
    await asyncio.wait_for(call.left.wait(), 8)
    assert line.said == []
