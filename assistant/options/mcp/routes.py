"""``POST /v1/mcp``: one message of the Model Context Protocol (streamable HTTP, without sessions)."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, HTTPException
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from assistant.domain.errors import ForbiddenError, NotFoundError
from assistant.options.mcp.section import McpSection
from assistant.service import errors
from assistant.service.answers import Answers
from assistant.service.app import REFUSED_QUESTIONS, RawRoute, described
from assistant.service.streams import read_body, watched
from assistant.tenant.deployment import EdgeSection

MCP_PATH = "/v1/mcp"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_PORT = re.compile(r":[0-9]{1,5}\Z")
_JSON: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}
router = APIRouter(include_in_schema=False)


@router.get(MCP_PATH)
async def no_session() -> None:
    """Refuse a client that would wait for messages of its session: there is none."""
    raise HTTPException(405, "No session is kept here: send each message by POST.", {"allow": "POST"})


async def serve_message(answers: Answers, scope: Scope, receive: Receive, send: Send) -> None:
    """A message of the Model Context Protocol (JSON-RPC 2.0, one request or notification, in any version of
    the protocol from 2024-11-05 on). The tools are answer, search and open_document. A question has the
    admission, retrieval, gate, checks, rate and record of /v1/answers. A tool that fails says so in its
    result, with our code. Host must be the tenant's host name, or this machine's own, and the origin of a
    page one that the tenant file names (403). An answer ends when its client leaves.
    """

    async def work() -> None:
        identity = await answers.identify(scope, "reads")
        tenant = answers.service.tenants[identity.tenant]
        if not McpSection.of(tenant.answering.tenant).served:
            raise NotFoundError("This tenant serves no tools: [mcp] served of its file.")
        require_own_page(Headers(scope=scope), tenant.answering.tenant.edge)
        from assistant.options.mcp.tools import ToolServer

        body = await read_body(scope, receive)
        async with watched(send, limit_s=answers.limits.stall_s) as sending:
            await tenant.part(ToolServer).respond(answers, identity, body, scope, receive, sending)

    await answers.at_edge(work, send)


def require_own_page(headers: Headers, edge: EdgeSection | None) -> None:
    """Raises ForbiddenError for a name that is not the service's (a page's own, by DNS rebinding), and for a
    page of an origin that ``[edge]`` does not name."""
    hosts, origins = (_LOOPBACK, ()) if edge is None else ((*_LOOPBACK, edge.host_name), edge.cors_origins)
    if _PORT.sub("", headers.get("host", "")) not in hosts:
        raise ForbiddenError("Host is no name of this service: [edge] host_name, or this machine's own.")
    if headers.get("origin") not in (None, *origins):
        raise ForbiddenError("A page of this origin may not call: [edge] cors_origins has not its name.")


def describe_message() -> dict[str, Any]:
    """Return the operation in the OpenAPI file."""
    success = {"description": "JSON-RPC's response, with a tool's failure in its result", **_JSON}
    failures = errors.problems(*REFUSED_QUESTIONS)
    failures |= {202: {"description": "Taken"}, 406: {"description": "Accept has no application/json"}}
    return {
        "summary": "Use the tools, by the Model Context Protocol",
        "operationId": "send_message",
        "requestBody": {"required": True, **_JSON},
        **described(serve_message, success, failures),
    }


ROUTES = (RawRoute("POST", MCP_PATH, serve_message, describe_message),)
