"""The panel's page and the codes that sign it in, unasked suggestions, and the note of a conversation.

1. The helpdesk's server asks for a code (``/v1/panel/codes``) and gives it to its own page.
2. That page hands it to the panel, which it holds in a frame.
3. The panel exchanges it for the tokens (``/v1/panel/sessions``), once.

A client posts a chat after each turn of the customer (``/v1/turns``), and may show the suggestion. When the
agent opens it, the client asks it as a question (``POST /v1/answers``, which makes a record) and reports the
act (``/v1/turns/{suggestion_id}/acts``). Otherwise a turn's text is in no store and no log.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, tzinfo
from hmac import compare_digest
from typing import Annotated, Literal, Self
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field, model_validator

from assistant.answer.excerpts import shown_title, source_of
from assistant.answer.request import MAX_TURNS
from assistant.answer.section import Section
from assistant.domain.answers import Act, AgentAct, ChatTurn, RedFlag, StoredAct
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError, EndpointPausedError, ForbiddenError, NotFoundError
from assistant.domain.identity import ContextToken, Identity, Role
from assistant.domain.public import PublicModel, RecordId
from assistant.options.panel.codes import (
    LIFETIME_S,
    MAX_CODE_CHARACTERS,
    PanelCodes,
    refused_code,
    tenant_of_code,
)
from assistant.options.panel.counts import KEPT_DAYS, STEPS, SuggestionCounts, step_of
from assistant.options.panel.note import Note, make_note
from assistant.options.panel.opened import Suggestions
from assistant.options.panel.read_turns import FoundInTurns
from assistant.service.app import console_page
from assistant.service.errors import NOT_FOUND, body_of, declared, problems
from assistant.service.identity import Caller, ServiceOf, TenantOf, caller_with, require_role
from assistant.service.opened import ServedTenant
from assistant.service.stored import AppendToAnswer, ReadAnswers
from assistant.service.streams import json_body

router = APIRouter()
_panel = APIRouter(tags=["panel"])
_suggestions = APIRouter(tags=["suggestions"])
_Agent = Annotated[Identity, caller_with(Role.AGENT)]
_MOST_LINES = 3
"""Lines of a section that a suggestion shows."""
_log = structlog.get_logger(__name__)


class PanelCodeRequest(PublicModel):
    """Body of ``POST /v1/panel/codes``, from a helpdesk's server."""

    context: ContextToken = Field(repr=False)
    """The care application's token of the conversation, of the same agent as the bearer token."""
    origin: str = Field(max_length=256)
    """Of the page that will hand the code to the panel, as in ``[edge] frame_ancestors``."""


class PanelCode(PublicModel):
    code: str = Field(repr=False)
    lifetime_s: int = LIFETIME_S


class PanelSessionRequest(PublicModel):
    """Body of ``POST /v1/panel/sessions``, from the panel."""

    code: str = Field(max_length=MAX_CODE_CHARACTERS, repr=False)
    origin: str = Field(max_length=256)
    """Of the page that handed the code over."""


class PanelSession(PublicModel):
    access_token: str = Field(repr=False)
    context: str = Field(repr=False)


@_panel.post("/v1/panel/codes", **declared(body=PanelCodeRequest))
async def make_panel_code(
    request: Request,
    service: ServiceOf,
    tenant: TenantOf,
    caller: _Agent,
    asked: Annotated[PanelCodeRequest, json_body(PanelCodeRequest)],
) -> PanelCode:
    """Return a code that signs the caller in to the panel of one page, once, within a minute. The caller is a
    helpdesk's server with the agent's access token, and with a context that the care application signed."""
    await service.context_of(asked.context, identity=caller)
    if asked.origin not in service.console.hosts:
        raise ForbiddenError(
            "origin is not among both [edge] frame_ancestors and cors_origins. Ask who runs the assistant."
        )
    token = request.headers["authorization"].partition(" ")[2].strip()
    codes = tenant.part(PanelCodes)
    return PanelCode(code=codes.make(token=token, context=asked.context, origin=asked.origin))


@_panel.post(
    "/v1/panel/sessions",
    responses=problems(400, 401, 413, 422, 429, 503),
    openapi_extra=body_of(PanelSessionRequest) | {"security": []},
)
async def open_panel_session(
    request: Request,
    service: ServiceOf,
    asked: Annotated[PanelSessionRequest, json_body(PanelSessionRequest)],
) -> PanelSession:
    """Return the tokens that a code carries: the agent's, which the issuer made, and the customer's context.
    The code alone gives access, so it is sent in the body: logs record addresses."""
    tenant = service.tenants.get(tenant_of_code(asked.code))
    # Browsers send the header: "same-origin" from the panel's page. Other clients do not send it.
    is_ours = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
    if tenant is None or asked.origin not in service.console.hosts or not is_ours:
        raise refused_code()
    codes = tenant.part(PanelCodes)
    grant = codes.open(asked.code, origin=asked.origin)
    service.count(await service.verifier.identify(f"Bearer {grant.token}"), "writes")
    await codes.use(asked.code)
    return PanelSession(access_token=grant.token, context=grant.context)


@_panel.get("/panel", include_in_schema=False)
async def panel_page(request: Request, service: ServiceOf) -> Response:
    """Return the console's page, for a frame in a page of ``hosts``, or for the pop-up in which a sign-in
    ends.

    The pop-up must keep its opener, so the page's ``cross-origin-opener-policy`` is ``unsafe-none``.
    """
    if not service.console.hosts:
        raise NotFoundError(NOT_FOUND)
    page = await console_page(request)
    headers = {**page.headers, "cross-origin-opener-policy": "unsafe-none"}
    return Response(page.body, page.status_code, headers=headers)


# Suggestions


class Turns(PublicModel):
    """``POST /v1/turns``."""

    turns: tuple[ChatTurn, ...] = Field(min_length=1, max_length=MAX_TURNS, repr=False)
    """The chat so far, oldest first. The last turn is the customer's."""

    @model_validator(mode="after")
    def _ends_with_the_customer(self) -> Self:
        if self.turns[-1].who != "customer":
            raise ValueError("the last turn is the customer's: send turns when a customer has written")
        return self


class Suggestion(PublicModel):
    """A section that may answer the customer. No model has written a word of it."""

    suggestion_id: RecordId
    document_id: str
    title: str
    heading: str
    """Of the section; empty where it has none."""
    lines: tuple[str, ...]
    """The lines that matter most, as they stand."""
    document_url: str
    """As of a source of an answer."""
    step: int
    """Twentieth of the probability that it is right: give it with ``opened`` and ``inserted``."""


class TurnsRead(PublicModel):
    """What the last turn is about: mostly nothing."""

    red_flags: tuple[RedFlag, ...]
    unchecked_language: str | None = None
    suggestion: Suggestion | None = None
    degraded: tuple[str, ...] = ()


class SuggestionAct(PublicModel):
    """``POST /v1/turns/{suggestion_id}/acts``."""

    answer_id: RecordId
    """The answer that began when the agent opened it."""
    kind: Literal["opened", "inserted"]
    step: int = Field(ge=0, lt=STEPS)


@_suggestions.post("/v1/turns", **declared(409, body=Turns))
async def read_turns(
    service: ServiceOf, tenant: TenantOf, caller: _Agent, asked: Annotated[Turns, json_body(Turns)]
) -> TurnsRead:
    """Read a chat after a customer's turn: emergencies, and one suggestion at most, where it is certain
    enough. No model writes, no live system is asked, and nothing is stored but a count."""
    service.count(caller, "turns")
    if await tenant.power.is_paused():
        raise EndpointPausedError("The model endpoints are paused, so no suggestion is made.")
    limits, suggestions = tenant.answering.tenant.limits, tenant.part(Suggestions)
    leave = service.admissions[caller.tenant].enter(caller.agent)
    try:
        deadline = Deadline.after(limits.answer_deadline_s, clock=service.clock)
        found = await suggestions.read.run(asked.turns, identity=caller, deadline=deadline)
        suggestion = await _suggested(found, tenant, caller)
    finally:
        leave()
    return TurnsRead(
        red_flags=found.red_flags,
        unchecked_language=found.unchecked_language,
        suggestion=suggestion,
        degraded=found.degraded,
    )


@_suggestions.post("/v1/turns/{suggestion_id}/acts", **declared(404, 409, body=SuggestionAct))
async def keep_suggestion_act(
    tenant: TenantOf,
    caller: _Agent,
    suggestion_id: RecordId,
    asked: Annotated[SuggestionAct, json_body(SuggestionAct)],
) -> StoredAct:
    """Keep with the answer that its suggestion was opened, or inserted into the reply; a repetition is kept
    once. 404 for a suggestion that was not shown to the caller."""
    suggestions = tenant.part(Suggestions)
    shown_id = suggestions.shown_id(suggestion_id, agent=caller.agent, step=asked.step)
    if not compare_digest(suggestion_id, shown_id):
        raise NotFoundError("No such suggestion was shown to you.")
    act = Act(act_id=f"{asked.kind}-{suggestion_id}", kind=AgentAct(f"suggestion_{asked.kind}"))
    kept = await AppendToAnswer(tenant.answering).act(asked.answer_id, act, identity=caller)
    await suggestions.counts.note(asked.kind, suggestion_id, step=asked.step)
    return kept


@_suggestions.get("/v1/turns/counts", **declared())
async def suggestion_counts(
    tenant: TenantOf, caller: Caller, days: Annotated[int, Query(ge=1, le=KEPT_DAYS)] = 30
) -> SuggestionCounts:
    """How many suggestions were shown, opened and inserted, by their certainty: no text and no agent."""
    require_role(caller, Role.KNOWLEDGE_OWNER, Role.REVIEWER, Role.AUDITOR)
    return await tenant.part(Suggestions).counts.of_days(days)


async def _suggested(reading: FoundInTurns, tenant: ServedTenant, caller: Identity) -> Suggestion | None:
    """Return the suggestion, and count that it is shown; None as ``FoundInTurns.suggested``."""
    suggestions = tenant.part(Suggestions)
    certain_enough = reading.suggested(least=suggestions.least)
    if certain_enough is None:
        return None
    section, probability = certain_enough
    suggestion = _suggestion_of(section, tenant, caller, step=step_of(probability))
    try:
        await suggestions.counts.note("shown", suggestion.suggestion_id, step=suggestion.step)
    except AssistantError as error:  # the suggestion is shown without its count
        _log.warning("suggestion_not_counted", error=type(error).__name__)
    return suggestion


def _suggestion_of(section: Section, tenant: ServedTenant, caller: Identity, *, step: int) -> Suggestion:
    keys = [unit for unit in section.units if unit.unit.ordinal in section.keys] or section.units
    links = tenant.answering.documents.links
    source = source_of(keys[0].passage, n=1, score=0.0, links=links, identity=caller)
    begin = f"{tenant.answering.clock.now():%Y-%m-%d}-{uuid4().hex}"
    return Suggestion(
        suggestion_id=tenant.part(Suggestions).shown_id(begin, agent=caller.agent, step=step),
        document_id=section.document_id,
        title=shown_title(section.document.card.title),
        heading=keys[0].unit.heading,
        lines=tuple(unit.unit.text for unit in keys[:_MOST_LINES]),
        document_url=source.document_url,
        step=step,
    )


# The note of a conversation


@router.get("/v1/conversations/{conversation_id}/note", tags=["notes"], response_model=Note, **declared(404))
async def conversation_note(
    request: Request,
    tenant: TenantOf,
    caller: _Agent,
    conversation_id: Annotated[str, Path(min_length=1, max_length=64)],
    zone: Annotated[str, Query(min_length=1, max_length=64)] = "UTC",
) -> Note | Response:
    """The note of the caller's own conversation, of its newest 50 answers: what was asked, which lines
    answered, what was sent, what stayed open. `Accept: text/plain` has it as text, with the times of `zone`
    ("America/Chicago"; of UTC where it is unknown here). Nothing is stored."""
    answers = await ReadAnswers(tenant.answering).conversation(conversation_id, identity=caller)
    texts = tenant.answering.documents.texts
    note = await make_note(conversation_id, answers, texts, labels=caller.labels)
    if "text/plain" in request.headers.get("accept", ""):
        known: tzinfo = UTC
        with suppress(ZoneInfoNotFoundError, ValueError, OSError):  # OSError: "America" is a folder of zones
            known = ZoneInfo(zone)
        return Response(note.as_text(known), media_type="text/plain; charset=utf-8")
    return note


router.include_router(_panel)
router.include_router(_suggestions)
REQUEST_BODIES = (PanelCodeRequest, PanelSessionRequest, Turns, SuggestionAct)
