"""The pages of patients and agents, and the route at which sent replies come in.

| route | called by |
| --- | --- |
| ``/``, ``/pages/…`` | a browser: the agents' page (``view/pages/``, built into ``DIST``) |
| ``/patient``, ``/helpdesk/chats…`` | the patient's page: it knows its chat's id |
| ``/helpdesk/desk…`` | the agents' page, which everybody on this machine may open |
| ``/v1/replies`` | the assistant, with the token of the order system |

A page asks every second for the chats that changed after a number, with one short request: a browser has six
connections a host, which as many streams of open windows would hold.

    GET /helpdesk/chats/5d0c…?after=1764309600123
    {"number": 1764309600124, "chats": [{"chat_id": "5d0c…", "messages": [{"text": "hi", …}], …}]}
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from html import escape
from typing import Annotated, Protocol

import httpx
import structlog
from fastapi import APIRouter, Depends, FastAPI
from pydantic import Field
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from assistant.domain.errors import (
    AssistantError,
    DependencyError,
    InvalidRequestError,
    NotFoundError,
)
from assistant.domain.identity import Identity, Role
from assistant.domain.live import Reply
from assistant.domain.public import PublicModel, RecordId
from assistant.options.helpdesk.chats import MOST_CHARACTERS, Changes, Chat, StoredChats
from assistant.options.helpdesk.patients import SimulatedPatients
from assistant.options.live.contexts import CareContexts
from assistant.service.app import DIST
from assistant.service.errors import problem_body, problem_headers, problem_of

_log = structlog.get_logger(__name__)
_CODE_LIMIT_S = 5.0
_CHAT = "chat"
"""Kind of id by which a context says which chat it is of."""
_DESK, _PATIENT = "helpdesk_desk", "helpdesk_patient"
"""Names of the pages' files: ``view/pages/helpdesk_desk.tsx`` is built into helpdesk_desk.js and .css."""
_FILES = {f"{name}.{kind}" for name in (_DESK, _PATIENT) for kind in ("js", "css")}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/pages/{name}.css">
<script type="module" src="/pages/{name}.js"></script>
</head>
<body>
<header class="reference">
A reference, not a helpdesk: it shows how a page holds the panel. Tenant: {tenant}.
</header>
<div id="page"></div>
</body>
</html>
"""


class CareSide(Protocol):
    """What the care application signs for the one agent of the desk."""

    def token(self) -> str:
        """Return the agent's access token for the assistant."""
        ...

    def context(self, chat: Chat) -> str:
        """Return the signed care context of a chat for the agent: it says whose conversation it is, with
        ``ids_of(chat)``."""
        ...


class DeskConfig(PublicModel):
    """What the desk's page needs to know."""

    service: str
    tenant: str
    """Name of the tenant, as pages show it."""


class Written(PublicModel):
    """A message of a page. The same ``message_id`` is kept once."""

    message_id: RecordId
    text: str = Field(min_length=1, max_length=MOST_CHARACTERS)


class Begun(PublicModel):
    """Who begins a chat: a reference knows nobody, so the page chooses."""

    customer: int = Field(default=0, ge=0, lt=100)
    text: str = Field(min_length=1, max_length=MOST_CHARACTERS)


@dataclass(frozen=True, slots=True)
class Helpdesk:
    """What the routes share."""

    chats: StoredChats
    patients: SimulatedPatients
    side: CareSide
    config: DeskConfig
    contexts: CareContexts
    """Verifies the contexts that ``side`` signed, for one tenant."""
    origin: str
    """Origin of the desk's pages: "https://desk.example.com". A code is valid on a page of it alone."""
    http: httpx.AsyncClient
    """For calls to the assistant."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the pages' files. A page may frame the assistant's panel."""
        csp = f"default-src 'self'; frame-src {self.config.service}; frame-ancestors 'none'"
        return {
            "content-security-policy": csp,
            "cross-origin-opener-policy": "same-origin-allow-popups",  # the panel's pop-up keeps its opener
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
            "cache-control": "no-store",
        }

    def page(self, name: str, title: str) -> Response:
        """Return a page, by the name of its files."""
        content = _PAGE.format(name=name, title=title, tenant=escape(self.config.tenant))
        return HTMLResponse(content, headers=self.headers)

    async def code(self, chat: Chat) -> str:
        """Return a one-time code that signs the agent in to the panel. Raises DependencyError."""
        try:
            response = await self.http.post(
                f"{self.config.service}/v1/panel/codes",
                json={"context": self.side.context(chat), "origin": self.origin},
                headers={"authorization": f"Bearer {self.side.token()}"},
                timeout=_CODE_LIMIT_S,
            )
            return response.raise_for_status().json()["code"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise DependencyError(f"The assistant gave no code ({type(error).__name__}).") from None

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Simulate patients inside the block. The routes work without it."""
        patients = asyncio.create_task(self.patients.run())
        try:
            yield
        finally:
            patients.cancel()
            with suppress(asyncio.CancelledError):
                await patients

    def add_to(self, app: FastAPI) -> None:
        """Add pages and routes to the care application (the order system), which checks the assistant's
        token on routes below ``/v1/``. The routes read this object from ``app.state.helpdesk``."""
        app.state.helpdesk = self
        app.include_router(_router)
        app.add_exception_handler(AssistantError, _refusal)


async def _refusal(_request: Request, error: Exception) -> Response:
    """Return the problem document of an error, as the assistant's own routes do."""
    if not isinstance(error, AssistantError):
        raise error
    problem = problem_of(error)
    return Response(problem_body(problem), problem.status, headers=problem_headers(problem))


def _desk(request: Request) -> Helpdesk:
    return request.app.state.helpdesk


DeskOf = Annotated[Helpdesk, Depends(_desk)]

_router = APIRouter(include_in_schema=False)
_OF_DESKS = {"customer", "ids", "story"}
"""Fields of a chat that its patient's page does not get."""


@_router.get("/pages/{name}")
async def file(desk: DeskOf, name: str) -> Response:
    if name not in _FILES or not (DIST / name).is_file():
        raise NotFoundError("There is no such page.")
    return FileResponse(DIST / name, headers=desk.headers)


@_router.get("/")
async def desk_page(desk: DeskOf) -> Response:
    return desk.page(_DESK, "Agents' desk")


@_router.get("/patient")
async def patient_page(desk: DeskOf) -> Response:
    return desk.page(_PATIENT, "Chat with your pharmacy")


@_router.get("/helpdesk/config")
async def config(desk: DeskOf) -> DeskConfig:
    return desk.config


@_router.post("/helpdesk/chats", status_code=201, response_model_exclude=_OF_DESKS)
async def begin(desk: DeskOf, asked: Begun) -> Chat:
    stories = desk.patients.stories
    customer = stories[asked.customer % len(stories)]
    return await desk.chats.open(customer.customer, dict(customer.ids), text=asked.text)


@_router.get("/helpdesk/chats/{chat_id}", response_model_exclude={"chats": {"__all__": _OF_DESKS}})
async def follow(desk: DeskOf, chat_id: str, after: int = 0) -> Changes:
    return await desk.chats.since(after, chat_id)


@_router.post("/helpdesk/chats/{chat_id}/messages", response_model_exclude=_OF_DESKS)
async def write(desk: DeskOf, chat_id: str, asked: Written) -> Chat:
    return await desk.chats.add(chat_id, "patient", asked.text, message_id=asked.message_id)


@_router.get("/helpdesk/desk")
async def follow_all(desk: DeskOf, after: int = 0) -> Changes:
    desk.patients.see_desk()
    return await desk.chats.since(after)


@_router.post("/helpdesk/desk/{chat_id}/messages")
async def answer(desk: DeskOf, chat_id: str, asked: Written) -> Chat:
    return await desk.chats.add(chat_id, "agent", asked.text, message_id=asked.message_id)


@_router.post("/helpdesk/desk/{chat_id}/close", status_code=204)
async def close(desk: DeskOf, chat_id: str) -> None:
    await desk.chats.close(chat_id)


@_router.post("/helpdesk/desk/{chat_id}/code")
async def code(desk: DeskOf, chat_id: str) -> Mapping[str, str]:
    return {"code": await desk.code(await desk.chats.get(chat_id))}


@_router.post("/helpdesk/desk/{chat_id}/context")
async def context(desk: DeskOf, chat_id: str) -> Mapping[str, str]:
    return {"context": desk.side.context(await desk.chats.get(chat_id))}


@_router.post("/v1/replies", status_code=204)
async def deliver(desk: DeskOf, reply: Reply) -> None:
    """Take what an agent sent to the patient's chat, once."""
    chat_id = await _chat_of(desk, reply)
    if len(reply.text) > MOST_CHARACTERS:
        raise InvalidRequestError(f"A message has at most {MOST_CHARACTERS} characters.")
    await desk.chats.add(chat_id, "agent", reply.text, message_id=reply.send_id)
    _log.info("reply_delivered", answer_id=reply.answer_id)


def ids_of(chat: Chat) -> Mapping[str, tuple[str, ...]]:
    """Return the ids of a context, the customer's things and the chat:
    ``{"order": ("4471-2208",), "chat": ("5d0c…",)}``."""
    return {**chat.ids, _CHAT: (chat.chat_id,)}


async def _chat_of(desk: Helpdesk, reply: Reply) -> str:
    """Return the id of the chat that a reply's context names, as this desk signed it for the reply's agent
    and the chat's customer; it may have expired since the question. Raises ContextRefusedError,
    InvalidRequestError, NotFoundError, DependencyError (keys)."""
    (tenant,) = desk.contexts.sections
    sender = Identity(tenant, reply.agent, frozenset({Role.AGENT}), frozenset())
    context = await desk.contexts.verify(reply.context, identity=sender, of_reply=True)
    chat_ids = () if context is None else context.ids.get(_CHAT, ())
    if context is None or len(chat_ids) != 1:
        raise InvalidRequestError("The reply's context names no chat of this helpdesk.")
    if (await desk.chats.get(chat_ids[0])).customer != context.customer:
        raise InvalidRequestError("The reply's context is of another customer than its chat.")
    return chat_ids[0]
