"""The route of a conversation's note."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import APIRouter, Path, Query, Request, Response

from assistant.answer.stored import ReadAnswers
from assistant.domain.identity import Identity, Role
from assistant.options.note.made import Note, make_note
from assistant.service.errors import declared
from assistant.service.identity import TenantOf, caller_with

router = APIRouter()


@router.get("/v1/conversations/{conversation_id}/note", tags=["notes"], response_model=Note, **declared(404))
async def conversation_note(
    request: Request,
    tenant: TenantOf,
    caller: Annotated[Identity, caller_with(Role.AGENT)],
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
