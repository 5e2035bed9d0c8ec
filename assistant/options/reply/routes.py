"""The routes of this option: write a reply, check a text, send it, confirm another agent's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Response
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from assistant.domain.answers import CheckBody, OfConversation, ReplyBody, StoredSent
from assistant.domain.clock import Deadline
from assistant.domain.errors import OverloadedError
from assistant.domain.identity import Identity, Role
from assistant.domain.live import LiveText
from assistant.domain.public import fields_of
from assistant.options.reply.guard import GuardSent
from assistant.options.reply.write import CheckedReply, ReplyRequest, WriteReply
from assistant.service.answers import Answers, idempotency_key
from assistant.service.app import ANSWER_ID, RawRoute, streamed
from assistant.service.errors import declared
from assistant.service.health import tokens_of
from assistant.service.identity import Service, ServiceOf, TenantOf, caller_with
from assistant.service.served import ServedTenant
from assistant.service.stored import AppendToAnswer
from assistant.service.streams import json_body, parse_body, read_body
from assistant.service.wire import ConfirmRequest, KeptSent, ReplyChecks, SendRequest

router = APIRouter(tags=["answers"])
_Agent = Annotated[Identity, caller_with(Role.AGENT)]


async def write_reply(answers: Answers, scope: Scope, receive: Receive, send: Send) -> None:
    """Write a reply to the patient: from the conversation that the request has again, the caller's own
    answer, its lines, and the live values that the request names with their `mac`. Where nothing
    answers it is a holding reply, or asks back. It is streamed as an answer, with an answer_id of its own,
    which `sent` takes as reply_id, and without sources; `started.language` is the reply's, and done has its
    checks. The replies to an answer are the conversation of that answer's id. A tenant without a model that
    writes is refused (409). 410: a document of it was withdrawn.
    """

    async def work() -> None:
        headers, answer_id = Headers(scope=scope), scope["path"].split("/")[3]
        identity = await answers.identify(scope, "questions")
        body = parse_body(await read_body(scope, receive), ReplyBody)
        request = ReplyRequest(reply_to=answer_id, conversation_id=answer_id, **dict(body))
        question = await answers.question(request, identity, key=idempotency_key(headers))
        question = replace(question, maker=question.tenant.part(WriteReply))
        await answers.deliver(question, headers, receive, send)

    await answers.at_edge(work, send)


@router.post("/v1/answers/{answer_id}/reply/check", **declared(404, 409, 410, body=CheckBody))
async def check_reply(
    service: ServiceOf,
    tenant: TenantOf,
    caller: _Agent,
    answer_id: str,
    asked: Annotated[CheckBody, json_body(CheckBody)],
) -> ReplyChecks:
    """Check a text for the patient against the conversation, the lines and live values of the caller's own
    answer: values and names that nothing holds, by code; then, where the checks of the tenant's model are
    believed, sentences that no line holds or of which a line says the opposite. Where it fails, is late or
    finds no place, `degraded` says so."""
    checked = await _checked(
        service, tenant, caller, answer_id, asked.text, asked, asked.live, by_model=asked.by_model
    )
    return ReplyChecks(checks=checked.checks, degraded=checked.degraded if asked.by_model else ())


async def _checked(
    service: Service,
    tenant: ServedTenant,
    caller: Identity,
    answer_id: str,
    text: str,
    conversation: OfConversation,
    live: Sequence[LiveText],
    *,
    by_model: bool = True,
    may_be_gone: bool = False,
) -> CheckedReply:
    """Return what is wrong with a text. The model takes a place among the answers in progress; it is not
    asked where there is none, because the tenant is paused or too much is in progress."""
    limits = tenant.answering.tenant.limits
    leave: Callable[[], None] | None = None
    with suppress(OverloadedError):
        if by_model and tenant.answering.checks_sentences and not await tenant.power.is_paused():
            leave = service.admissions[caller.tenant].enter(caller.agent)
    try:
        checked = await tenant.part(WriteReply).check_text(
            answer_id,
            text,
            conversation,
            live,
            identity=caller,
            deadline=Deadline.after(limits.answer_deadline_s, clock=service.clock),
            by_model=leave is not None,
            may_be_gone=may_be_gone,
        )
    finally:
        if leave is not None:
            leave()
    service.metrics.live.use(caller.tenant, tokens_of(checked.usage))
    return checked


@router.post("/v1/answers/{answer_id}/sent", **declared(404, 409, body=SendRequest))
async def keep_sent(
    service: ServiceOf,
    tenant: TenantOf,
    caller: _Agent,
    answer_id: str,
    asked: Annotated[SendRequest, json_body(SendRequest)],
) -> KeptSent:
    """Check what the agent sends to the patient, record it, and deliver it where the tenant names a system
    that takes replies; without one nothing is delivered. The same send_id with the same content is kept once,
    and refused with any other (409). `live` marks values of elements, each with its `mac`; `context` is the
    question's (422 otherwise).
    After 503 `reply_not_delivered` it is recorded, and may be sent again with the same send_id. An answer
    takes 50 sent texts; another one is refused (409).

    Where the check finds something, nothing is recorded or delivered: 409 `reply_findings` has the
    `findings`. Send again with their ids in `confirmed`; where the tenant asks for it, with a `reason`, or
    once another agent has confirmed the text. The tenant's emergency lines are never findings."""
    checked = CheckedReply(())

    async def guard() -> None:
        nonlocal checked
        checked = await _checked(
            service, tenant, caller, answer_id, asked.sent.text, asked, asked.values, may_be_gone=True
        )
        await tenant.part(GuardSent).run(answer_id, asked.sent, checked.checks, by=caller.agent)

    whose = await service.context_of(asked.context, identity=caller, of_reply=True)
    stored = await AppendToAnswer(tenant.answering).sent(
        answer_id,
        asked.sent,
        identity=caller,
        guard=guard,
        context=asked.context,
        whose=whose,
    )
    return KeptSent(**fields_of(stored, StoredSent), degraded=checked.degraded)


@router.post(
    "/v1/answers/{answer_id}/sent/confirm", status_code=204, **declared(404, 409, body=ConfirmRequest)
)
async def confirm_sent(
    tenant: TenantOf,
    caller: _Agent,
    answer_id: str,
    asked: Annotated[ConfirmRequest, json_body(ConfirmRequest)],
) -> Response:
    """Confirm another agent's text that waits for a second person; who asked sends it then, within an hour.
    Without `contents` the response is 409 `reply_findings`, with what to look at and the digest to name. The
    caller needs the labels of the answer, and the read is recorded."""
    await tenant.part(GuardSent).confirm(answer_id, asked.text, named=asked.contents, identity=caller)
    return Response(status_code=204)


def _describe_reply() -> dict[str, Any]:
    return streamed(write_reply, "Write a reply", ReplyBody, ANSWER_ID)


RAW = (RawRoute("POST", "/v1/answers/{answer_id}/reply", write_reply, _describe_reply),)
REQUEST_BODIES = (ReplyBody, CheckBody, ConfirmRequest, SendRequest)
