"""Answers read back, marked, sent and cancelled. Asking itself stands in ``answer_requests``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from assistant.answering.reading import AnswerReading
from assistant.api.identity import require_role
from assistant.api.openapi_parts import body_of, problems
from assistant.api.problems import NOT_FOUND
from assistant.api.request_body import parse_body, read_body
from assistant.api.wire import Conversation, StoredAnswer
from assistant.api.wiring import Caller, ServiceOf
from assistant.domain.answers import Sent, StoredSent, StoredVerdict, Verdict
from assistant.domain.errors import NotFoundError
from assistant.domain.identity import Identity, Role
from assistant.wiring import ServedTenant

router = APIRouter(tags=["answers"])


@router.get("/v1/answers", responses=problems(401, 403, 404, 422, 503))
async def read_conversation(
    service: ServiceOf, caller: Caller, conversation_id: Annotated[str, Query(min_length=1, max_length=64)]
) -> Conversation:
    """The newest 50 answers of a conversation, oldest first: an agent's own; any to an auditor."""
    require_role(caller, Role.AGENT, Role.AUDITOR)
    readings = await service.tenants[caller.tenant].read_answers.conversation(
        conversation_id, identity=caller
    )
    return Conversation(conversation_id=conversation_id, answers=tuple(map(_stored, readings)))


@router.get("/v1/answers/{answer_id}", responses=problems(401, 403, 404, 422, 503))
async def read_answer(service: ServiceOf, caller: Caller, answer_id: str) -> StoredAnswer:
    """One answer with all that was said of it: an agent's own; any to an auditor, whose read is recorded."""
    require_role(caller, Role.AGENT, Role.AUDITOR)
    return _stored(await service.tenants[caller.tenant].read_answers.one(answer_id, identity=caller))


@router.delete("/v1/answers/{answer_id}", status_code=204, responses=problems(401, 403, 404, 422, 503))
async def cancel_answer(service: ServiceOf, caller: Caller, answer_id: str) -> Response:
    """Cancel the caller's own answer at once; one that has ended stays as it is."""
    require_role(caller, Role.AGENT)
    if writing := service.running.find(answer_id, identity=caller):
        writing.cancel()
    else:
        await _cancel_elsewhere(service.tenants[caller.tenant], answer_id, caller)
    return Response(status_code=204)


async def _cancel_elsewhere(tenant: ServedTenant, answer_id: str, caller: Identity) -> None:
    """Tell the task that writes the answer, if it has a log; one that has ended stays as it is."""
    reading = await tenant.log.read(answer_id)
    if reading is not None and reading.opening.agent == caller.agent:
        if not (reading.batches and reading.batches[-1].ended):
            await tenant.log.signal_cancel(answer_id)
        return
    record = await tenant.answering.records.get_answer(answer_id)
    if record is None or record.agent != caller.agent:
        raise NotFoundError(NOT_FOUND)


@router.post(
    "/v1/answers/{answer_id}/verdict",
    responses=problems(400, 401, 403, 404, 409, 413, 422, 503),
    openapi_extra=body_of(Verdict),
)
async def give_verdict(request: Request, service: ServiceOf, caller: Caller, answer_id: str) -> StoredVerdict:
    """Mark the caller's own answer. The same verdict_id with the same content is kept once."""
    require_role(caller, Role.AGENT)
    verdict = parse_body(await read_body(request.scope, request.receive), Verdict)
    tenant = service.tenants[caller.tenant]
    return await tenant.append_to_answer.verdict(answer_id, verdict, identity=caller)


@router.post(
    "/v1/answers/{answer_id}/sent",
    responses=problems(400, 401, 403, 404, 409, 413, 422, 503),
    openapi_extra=body_of(Sent),
)
async def keep_sent(request: Request, service: ServiceOf, caller: Caller, answer_id: str) -> StoredSent:
    """Keep what the agent sent to the patient. The same send_id with the same content is kept once."""
    require_role(caller, Role.AGENT)
    sent = parse_body(await read_body(request.scope, request.receive), Sent)
    return await service.tenants[caller.tenant].append_to_answer.sent(answer_id, sent, identity=caller)


def _stored(reading: AnswerReading) -> StoredAnswer:
    return StoredAnswer(
        record=reading.record, sources=reading.sources, verdicts=reading.verdicts, sent=reading.sent
    )
