"""Attacks on the tools' edge. Each first succeeds as the owner does it, so that what fails is the attack.

The attacks by documents, questions and a model's text run over the tools in ``tests/attacks``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from joserfc.jwk import ECKey
from starlette.datastructures import Headers

from assistant.domain.errors import ForbiddenError
from assistant.options.mcp.routes import require_own_page
from assistant.tenant.tenant import load_tenant
from tests.attacks.scene import logged
from tests.options.mcp.scene import PATH, message, post, text_of, tool_service
from tests.stage.running_service import RunningService
from tests.stage.tokens import claims, token, unsigned

pytestmark = pytest.mark.asyncio(loop_scope="module")
FIND = message("search", query="the wait")
FOUND = "The wait is two days."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    async with tool_service(tmp_path_factory.mktemp("attacked")) as service:
        yield service


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def owner(service: RunningService) -> None:
    assert FOUND in text_of(await post(service, FIND))


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
