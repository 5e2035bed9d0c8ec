"""``assistant mcp``: a client of this machine speaks on stdin and stdout, and the service does the work."""

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
from assistant.options.mcp.commands import pass_on
from tests.fakes.running_service import RunningService, eventually
from tests.options.mcp.scene import message, tool_service, use

ROOT = Path(__file__).parents[3]
WAIT = "How long is the wait?"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with tool_service(tmp_path) as service:
        yield service


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
