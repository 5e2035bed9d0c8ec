"""The tools by the SDK's own client, over real HTTP: the same answers under the same rules; and attacks on
their edge.

The attacks by documents, questions and a model's text run over the tools in ``tests/attacks``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import httpx
import httpx2
import orjson
import pytest
import pytest_asyncio
from joserfc.jwk import ECKey
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from starlette.datastructures import Headers

from assistant.client import AssistantClient, Patience
from assistant.domain.audit import AccessQuery
from assistant.domain.clock import SystemClock
from assistant.domain.errors import ForbiddenError
from assistant.options.mcp.commands import pass_on
from assistant.options.mcp.routes import require_own_page
from assistant.tenant.tenant import load_tenant
from tests.attacks.scene import logged
from tests.stage.running_service import TWO_SENTENCES, RunningService, Scene, eventually, service_of_two
from tests.stage.tokens import claims, token, unsigned

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROOT = Path(__file__).parents[3]
PATH = "/v1/mcp"
SERVED = "[mcp]\nserved = true\n"


@asynccontextmanager
async def tool_service(folder: Path, **scene: Any) -> AsyncIterator[RunningService]:
    """Two tenants that serve the tools, each with a document; the clinic has one that the label hr opens."""
    async with service_of_two(folder, Scene(more_of_tenants=SERVED, **scene)) as service:
        await service.know("salaries", "The salaries are SECRET-5521.", labels=("hr",))
        yield service


@asynccontextmanager
async def using(service: RunningService, *, mode: str = "auto", **who: Any) -> AsyncIterator[Client]:
    """Open the SDK's client with an agent's token. ``mode`` is the SDK's: ``legacy`` shakes hands first."""
    headers = {"authorization": service.headers(**who)["authorization"]}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20, trust_env=False) as http,
        Client(streamable_http_client(service.url + PATH, http_client=http), mode=mode) as client,
    ):
        yield client


async def use(client: Client, name: str, **arguments: Any) -> str:
    """Return the text of a tool's result, after "failed: " where it failed."""
    result = await client.call_tool(name, arguments)
    (part,) = result.content
    assert part.type == "text"
    return f"failed: {part.text}" if result.is_error else part.text


def message(name: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


async def post(
    service: RunningService, body: Any, *, headers: Mapping[str, str] | None = None, **who: Any
) -> httpx.Response:
    """Send one message; ``bytes`` as they are."""
    sent = service.headers(**who) | {"content-type": "application/json"} | dict(headers or {})
    given: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    return await service.client.post(PATH, headers=sent, **given)


def text_of(response: httpx.Response) -> str:
    """Return the text of a tool's result, after "failed: " where it failed."""
    assert response.status_code == 200, response.text
    result = response.json()["result"]
    return ("failed: " if result.get("isError") else "") + result["content"][0]["text"]


FIND = message("search", query="the wait")
FOUND = "The wait is two days."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    async with tool_service(tmp_path_factory.mktemp("tools")) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="module")
async def service(running: RunningService) -> RunningService:
    """The service, after its owner's call went well."""
    running.sagemaker.begin_anew()
    assert FOUND in text_of(await post(running, FIND))
    return running


LINES = "\n".join(f"Shelf {number} holds {'jars and ' * 60}lids." for number in range(1, 101))
WAIT = "How long is the wait?"


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
    began = SystemClock().now()
    async with using(service, agent="zoe") as client:
        await use(client, "answer", question=WAIT)
        await use(client, "search", query="the wait")
        await use(client, "open_document", document_id="wait")
    query = AccessQuery(since=began, until=SystemClock().now(), document_id="wait", agent="zoe", limit=10)
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


# --- attacks: each first succeeds as the owner does it, so that what fails is the attack ---
def bearer(**changes: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(claims(datetime.now(UTC), **changes))}"}


def refused(response: httpx.Response, status: int) -> None:
    assert response.status_code == status, response.text
    assert "wait is" not in response.text


FORGED = token(claims(datetime.now(UTC)), key=ECKey.generate_key("P-256", {"kid": "ec"}))
TOKENS: Mapping[str, dict[str, str]] = {
    "none": {"authorization": ""},
    "no bearer": {"authorization": "Basic YW5uOmFubg=="},
    "unsigned": {"authorization": f"Bearer {unsigned(claims(datetime.now(UTC)))}"},
    "another key": {"authorization": f"Bearer {FORGED}"},
    "another audience": bearer(aud="https://mcp.example"),
    "no audience": bearer(aud=None),
    "another issuer": bearer(iss="https://issuer.example"),
    "expired": bearer(exp=int(datetime.now(UTC).timestamp()) - 120),
    "an unknown tenant": bearer(tenant="bank"),
}


@pytest.mark.parametrize("name", TOKENS)
async def test_without_a_good_token_nothing_is_served(service: RunningService, name: str) -> None:
    response = await post(service, FIND, headers=TOKENS[name])
    refused(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_token_in_the_address_or_the_message_counts_for_nothing(service: RunningService) -> None:
    good = service.headers()["authorization"].removeprefix("Bearer ")
    body = FIND | {"params": FIND["params"] | {"_meta": {"authorization": f"Bearer {good}"}}}
    sent = {"content-type": "application/json", "accept": "application/json"}
    refused(await service.client.post(f"{PATH}?access_token={good}", json=body, headers=sent), 401)


async def test_a_role_that_asks_no_questions_has_no_tools(service: RunningService) -> None:
    refused(await post(service, FIND, roles=["auditor"]), 403)


async def test_another_tenant_s_token_opens_that_tenant_alone(service: RunningService) -> None:
    wait, refill = (message("open_document", document_id=name) for name in ("wait", "refill"))
    assert "25 days" in text_of(await post(service, refill, tenant="pharmacy"))
    assert text_of(await post(service, refill)).endswith("(not_found)")
    assert text_of(await post(service, wait, tenant="pharmacy")).endswith("(not_found)")
    assert FOUND not in text_of(await post(service, FIND, tenant="pharmacy"))


async def test_a_label_that_the_agent_lacks_opens_nothing(service: RunningService) -> None:
    opened, asked = message("open_document", document_id="salaries"), "What are the salaries?"
    only = {"filters": {"document_id": ["salaries"]}}
    calls = [opened, message("search", query=asked, **only), message("answer", question=asked, **only)]
    service.sagemaker.texts = ("The salaries are SECRET-5521.",)
    for call in calls[:2]:
        assert "SECRET-5521" in text_of(await post(service, call, labels=["hr"]))
    for call in calls:
        text = (await post(service, call)).text
        assert "SECRET-5521" not in text
        assert "Title of salaries" not in text
    claimed = message("open_document", document_id="salaries", labels=["hr"])
    assert (
        text_of(await post(service, claimed))
        == "failed: Unknown field labels; leave it out. (invalid_request)"
    )


HOSTS = (
    "evil.example",
    "evil.example:8700",
    "127.0.0.1.evil.example",
    "localhost.evil.example:8700",
    "127.0.0.1:80.evil.example@x",
    "169.254.169.254",
    "",
)


@pytest.mark.parametrize("host", HOSTS)
async def test_a_name_that_was_bound_to_this_machine_is_refused(service: RunningService, host: str) -> None:
    """DNS rebinding: a page of evil.example calls the address that its name leads to by now."""
    refused(await post(service, FIND, headers={"host": host}), 403)


ORIGINS = ("http://evil.example", "null", "http://localhost:8700", "http://127.0.0.1:8700.evil.example")


@pytest.mark.parametrize("origin", ORIGINS)
async def test_a_page_of_another_origin_is_refused(service: RunningService, origin: str) -> None:
    refused(await post(service, FIND, headers={"origin": origin}), 403)


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
async def test_a_form_of_a_page_is_no_message(service: RunningService, media_type: str) -> None:
    refused(await post(service, FIND, headers={"content-type": media_type}), 400)


async def test_a_body_over_the_limit_is_refused(service: RunningService) -> None:
    near = message("search", query="the wait", filters={"source": []}) | {"pad": "x" * 60_000}
    assert FOUND in text_of(await post(service, near))
    refused(await post(service, near | {"pad": "x" * 70_000}), 413)


BROKEN: Mapping[str, bytes] = {
    "empty": b"",
    "no JSON": b'{"jsonrpc": "2.0", "id": 1',
    "no UTF-8": b'{"jsonrpc": "2.0", "id": 1, "method": "\xff"}',
    "a number": b"7",
    "null": b"null",
    "a batch": b'[{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}]',
    "an empty batch": b"[]",
    "no method": b'{"jsonrpc": "2.0", "id": 1}',
    "another version": b'{"jsonrpc": "1.0", "id": 1, "method": "tools/list"}',
    "an id that is an object": b'{"jsonrpc": "2.0", "id": {}, "method": "tools/list"}',
    "nested too deep": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": '
    + b'{"a": ' * 2_000
    + b"1"
    + b"}" * 2_001,
}


TAKEN_AS_NOTIFICATION = ("an id that is an object", "2025-06-18")
"""By the SDK, which drops it."""


@pytest.mark.parametrize("version", ["2025-06-18", "2026-07-28"])
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_message_is_refused(service: RunningService, name: str, version: str) -> None:
    with logged() as log:
        response = await post(service, BROKEN[name], headers={"mcp-protocol-version": version})
    refused(response, 202 if (name, version) == TAKEN_AS_NOTIFICATION else 400)
    assert [line for line in log if "Traceback" in line] == []


WRONG: Mapping[str, dict[str, Any]] = {
    "an unknown tool": message("withdraw_document", document_id="wait"),
    "a tool of Python": message("__class__"),
    "no arguments": message("search"),
    "an unknown argument": message("search", query="wait", tenant="pharmacy"),
    "a number for a text": message("search", query=7),
    "a long question": message("answer", question="x" * 60_000),
    "a line below 1": message("open_document", document_id="wait", line=0),
    "a start below 0": message("open_document", document_id="wait", start=-1),
    "a line without end": message("open_document", document_id="wait", line=10**30),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_call_of_a_tool_fails_and_shows_nothing(service: RunningService, name: str) -> None:
    text = text_of(await post(service, WRONG[name]))
    assert text.startswith("failed: ")
    assert "wait is" not in text


METHODS = (
    "resources/list",
    "resources/read",
    "prompts/get",
    "completion/complete",
    "logging/setLevel",
    "eval",
)


@pytest.mark.parametrize("method", METHODS)
async def test_nothing_but_the_tools_is_there(service: RunningService, method: str) -> None:
    params = {"uri": "file:///etc/passwd", "name": "x", "level": "debug"}
    response = await post(service, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert "error" in response.json()


IDS = (
    "../wait",
    "wait/../salaries",
    "/etc/passwd",
    "..%2fsalaries",
    "salaries\0",
    "./salaries",
    "SALARIES",
    "wait\n",
)


@pytest.mark.parametrize("document_id", IDS)
async def test_an_id_leads_to_no_other_document(service: RunningService, document_id: str) -> None:
    opened = text_of(await post(service, message("open_document", document_id=document_id)))
    assert opened.startswith("failed: ")
    assert opened.endswith(("(not_found)", "(invalid_request)"))


async def test_a_session_id_is_nothing(service: RunningService) -> None:
    first = await post(service, FIND, agent="bob")
    assert "mcp-session-id" not in first.headers
    guessed = {"mcp-session-id": "0" * 32}
    assert FOUND in text_of(await post(service, FIND, headers=guessed))
    refused(await post(service, FIND, headers=guessed | {"authorization": ""}), 401)
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await post(service, cancelled, headers=guessed)).status_code == 202


async def test_no_line_of_the_log_has_a_message_s_text(service: RunningService) -> None:
    with logged() as log:
        await post(service, message("answer", question="How long is SECRETWORD?"))
        await post(service, message("SECRETWORD"))
        await post(service, b'{"jsonrpc": "2.0", "SECRETWORD": 1, "id": 1}')
        await post(service, FIND, headers={"host": "secretword.example"})
    assert [line for line in log if "secretword" in line.lower()] == []


async def test_the_edge_of_the_tenant_file_names_host_and_origins() -> None:
    edge = load_tenant(Path(__file__).parents[2] / "tenants" / "sandbox.toml").edge
    host, origin = "assistant.sandbox.example.com", "https://desk.sandbox.example.com"
    for name in (host, f"{host}:443", "127.0.0.1:8700", "[::1]"):
        require_own_page(Headers({"host": name}), edge)
    require_own_page(Headers({"host": host, "origin": origin}), edge)
    for wrong in ({"host": "desk.sandbox.example.com"}, {"host": host, "origin": f"https://{host}"}):
        with pytest.raises(ForbiddenError):
            require_own_page(Headers(wrong), edge)


async def test_a_subscription_holds_no_connection(service: RunningService) -> None:
    about = "io.modelcontextprotocol/"
    meta = {f"{about}protocolVersion": "2026-07-28", f"{about}clientCapabilities": {}}
    listen = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"_meta": meta}}
    headers = {
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": "subscriptions/listen",
        "accept": "application/json, text/event-stream",
    }
    response = await post(service, listen, headers=headers)
    assert "error" in response.json()
