"""Unmodified clients of the Model Context Protocol use the tools over HTTP: ``check-mcp-clients``.

The third one, the SDK for Python, is in the environment of all tests (``tests/options/mcp``).
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from tests.stage.running_service import Scene, service_of_two

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / "build" / "mcp-clients" / "bin" / "python"
CLIENTS = {
    "@modelcontextprotocol/sdk": ("node", str(HERE / "ask.mjs")),
    "langchain-mcp-adapters": (str(PYTHON), "-I", str(HERE / "ask_langchain.py")),
}
CALLS = [
    ("answer", {"question": "How long is the wait?"}),
    ("search", {"query": "the wait"}),
    ("open_document", {"document_id": "wait", "start": 0}),
    ("open_document", {"document_id": "refill"}),
]


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_answers_searches_opens_and_is_told_what_failed(tmp_path: Path, client: str) -> None:
    scene = Scene(more_of_tenants="[mcp]\nserved = true\n")
    async with service_of_two(tmp_path, scene) as service:
        token = service.headers()["authorization"].removeprefix("Bearer ")
        process = await asyncio.create_subprocess_exec(
            *(*CLIENTS[client], json.dumps(CALLS)),
            env=os.environ | {"ASSISTANT_URL": service.url, "ASSISTANT_TOKEN": token},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, failed = await process.communicate()
    assert process.returncode == 0, failed.decode()
    understood = json.loads(said)
    assert understood["tools"] == ["answer", "search", "open_document"]
    answered, found, opened, refused = understood["texts"]
    source = "[1] Title of wait (document_id wait, start 0)"
    assert answered.startswith(f"Wait two days. [1]\n\nSources:\n{source}\n\nanswer_id ")
    assert found == f"{source}\nThe wait is two days."
    assert opened == "Title of wait (wait)\n1: The wait is two days."
    assert "There is no such thing, or it is not yours. (not_found)" in refused
