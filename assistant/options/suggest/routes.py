"""The routes of suggestions.

A client posts the chat after each turn of the customer (``/v1/turns``), and may show the
suggestion. When the agent opens it, the client asks it as a question (``POST /v1/answers``, which makes a
record) and reports the act (``/v1/turns/{suggestion_id}/acts``). Otherwise a turn's text is in no store and
no log.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Annotated, Literal, Self
from uuid import uuid4

import structlog
from fastapi import APIRouter, Query
from pydantic import Field, model_validator

from assistant.answer.choose import Section
from assistant.answer.excerpts import shown_title, source_of
from assistant.answer.stored import AppendToAnswer
from assistant.answer.take import MAX_TURNS
from assistant.domain.answers import Act, AgentAct, ChatTurn, RedFlag, StoredAct
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError, EndpointPausedError, NotFoundError
from assistant.domain.identity import Identity, Role
from assistant.domain.public import PublicModel, RecordId
from assistant.options.suggest.counts import KEPT_DAYS, STEPS, SuggestionCounts, step_of
from assistant.options.suggest.found import FoundInTurns
from assistant.options.suggest.opened import Suggestions
from assistant.service.errors import declared
from assistant.service.identity import Caller, ServiceOf, TenantOf, caller_with, require_role
from assistant.service.opened import ServedTenant
from assistant.service.streams import json_body

_log = structlog.get_logger(__name__)
_MOST_LINES = 3
"""Lines of a section that a suggestion shows."""


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


REQUEST_BODIES = (Turns, SuggestionAct)
router = APIRouter(tags=["suggestions"])
_Agent = Annotated[Identity, caller_with(Role.AGENT)]


@router.post("/v1/turns", **declared(409, body=Turns))
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


@router.post("/v1/turns/{suggestion_id}/acts", **declared(404, 409, body=SuggestionAct))
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


@router.get("/v1/turns/counts", **declared())
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
