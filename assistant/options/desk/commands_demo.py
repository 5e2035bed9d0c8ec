"""The story at the desk that ``assistant demo`` tells: a bad answer, a better one, and how it is served."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from assistant.client import AssistantClient, NotAllowedError, NotThereError
from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.desk import (
    CaseReason,
    CaseState,
    ItemState,
    case_id,
)
from assistant.domain.errors import LocalRuntimeError
from assistant.domain.identity import Role
from assistant.laptop.tokens import Grant
from assistant.options.desk import bodies
from assistant.service import wire
from assistant.terminal.answer_view import answer_on, question_of
from assistant.terminal.local import LocalRuntime
from assistant.terminal.terminal import Terminal, styled

_ASKED = "My headset keeps cutting out in mid call. Where do I order a new one?"
_ASKED_NEXT = "My headset keeps cutting out in mid call. Where can I order a new one?"
_BETTER = "Order a new headset from the Equipment Desk, ext. 4990. It comes within two working days."
_APPROVED_LIFE = timedelta(days=90)
"""Time until the approved answer of the demo expires."""
_LOOK_EVERY_S = 1.0
_LOOKS = 30
"""Attempts of ``_until``, so it waits 30 s at most. Keep them few: an attempt that asks a question which is
not answered opens a case at the desk."""
_MISSED = "{missed} within 30 s. See the logs in .state/logs, then run the demo again."
_CASES, _ITEMS = "/v1/desk/cases", "/v1/desk/items"
T = TypeVar("T")


async def tell_desk_story(runtime: LocalRuntime, terminal: Terminal, tenant: str) -> None:
    """Sign two agents and two reviewers in, and tell the story: the first agent marks an answer bad with a
    better text, the reviewer proposes it as an approved answer, and the next agent gets it. It stays, for the
    console, until the next demo.

    Raises LocalRuntimeError when a step does not happen in time, RefusedByServiceError, UnreachableError.
    """
    async with AsyncExitStack() as stack:

        async def signed_in(name: str, role: Role) -> AssistantClient:
            return await stack.enter_async_context(runtime.client(Grant(tenant, name, roles=(role,))))

        amira, noor = await signed_in("amira", Role.AGENT), await signed_in("noor", Role.AGENT)
        rosa, samuel = await signed_in("rosa", Role.REVIEWER), await signed_in("samuel", Role.REVIEWER)
        await _begin_anew(samuel, noor)
        _tell(terminal, "amira, agent", f"asks: {_ASKED}")
        printer = await answer_on(terminal.detail, amira, question_of(_ASKED))
        if (answer_id := printer.answer_id) is None:
            raise LocalRuntimeError("The answer came without an id. See the logs in .state/logs.")
        verdict_id, label, reasons = uuid.uuid4().hex, VerdictLabel.BAD, ("incomplete",)
        await amira.give_verdict(
            answer_id, Verdict(verdict_id=verdict_id, label=label, reasons=reasons, better_text=_BETTER)
        )
        marked_s = time.monotonic()
        _tell(terminal, "amira, agent", f"marks it bad, with a better text: {_BETTER}")
        case = await _case_of(answer_id, rosa)
        waited = f"finds the case at the desk after {time.monotonic() - marked_s:.1f} s"
        _tell(terminal.detail, "rosa, reviewer", waited)
        await _approve(case, terminal, rosa, samuel)
        approved_s = time.monotonic()
        missed = "The approved answer was not served"
        changed = await _until(lambda: _answer_if(noor, _ASKED_NEXT, has_better=True), missed=missed)
        changed_s = time.monotonic() - approved_s
        _tell(terminal, "noor, agent", f"asks: {_ASKED_NEXT}")
        if (offered := changed.offered) is not None:
            terminal.show(f"Offered, approved for “{offered.question}”:\n{offered.text}")
        else:
            terminal.show(changed.text)
        _tell(terminal, "", f"The answer changed {changed_s:.1f} s after the approval.")


def _tell(terminal: Terminal, who: str, what: str) -> None:
    """Print a line of the story: "amira, agent     asks: …"."""
    terminal.out.print(styled((f"{who:<18}", "bold cyan"), (what, "")))


async def _case_of(answer_id: str, reviewer: AssistantClient) -> bodies.DeskCase:
    """Return the case that the bad mark opens."""

    async def look() -> bodies.DeskCase | None:
        with suppress(NotThereError):
            return await reviewer.get(
                bodies.DeskCase, f"{_CASES}/{case_id(answer_id, CaseReason.BAD_VERDICT)}"
            )
        return None

    return await _until(look, missed="The bad mark did not reach the desk")


async def _approve(
    case: bodies.DeskCase, terminal: Terminal, reviewer: AssistantClient, second: AssistantClient
) -> None:
    """Resolve the case with its better text, approved by a second person where the tenant's profile asks for
    one."""
    expires_on = (datetime.now(UTC) + _APPROVED_LIFE).date()
    answer = bodies.NewApprovedAnswer(
        questions=(_ASKED,), text=case.better_text or _BETTER, expires_on=expires_on
    )
    resolution = bodies.CaseResolution(revision=case.revision, kind="approved_answer", approved_answer=answer)
    proposed = await reviewer.post(bodies.DeskCase, f"{_CASES}/{case.case_id}/resolution", resolution)
    _tell(terminal.detail, "rosa, reviewer", "proposes the better text as an approved answer")
    if proposed.case.state is not CaseState.PROPOSED:
        return
    path = f"{_CASES}/{case.case_id}/approval"
    approval = bodies.CaseApproval(revision=proposed.revision, approve=True)
    try:
        await reviewer.post(bodies.DeskCase, path, approval)
    except NotAllowedError:
        what = "may not approve what she proposed: that takes a second person"
        _tell(terminal.detail, "rosa, reviewer", what)
    await second.post(bodies.DeskCase, path, approval)
    _tell(terminal, "samuel, reviewer", "reads it and approves it")


async def _answer_if(agent: AssistantClient, question: str, *, has_better: bool) -> wire.WholeAnswer | None:
    """Ask. Return the answer if it serves or offers ``_BETTER``; with ``has_better`` false, if it does not.
    Else None."""
    answer = await agent.ask(question)
    offered = answer.offered.text if answer.offered is not None else ""
    return answer if (_BETTER in answer.text + offered) is has_better else None


async def _begin_anew(reviewer: AssistantClient, agent: AssistantClient) -> None:
    """Withdraw the approved answer of an earlier demo, and wait until it is gone."""
    for item in (await reviewer.get(bodies.DeskItems, _ITEMS, kind="approved_answer")).items:
        if item.state is ItemState.LIVE and item.approved_answer and item.approved_answer.text == _BETTER:
            change = bodies.StateChange(revision=item.revision, state="withdrawn", note="A new demo begins.")
            path = f"{_ITEMS}/approved_answer/{item.item_id}/state"
            await reviewer.post(bodies.DeskItemHistory, path, change)
            missed = "The old answer did not go"
            await _until(lambda: _answer_if(agent, _ASKED, has_better=False), missed=missed)


async def _until(look: Callable[[], Awaitable[T | None]], *, missed: str) -> T:
    """Call ``look`` every second until it does not return None, and return that. Raises LocalRuntimeError
    after 30 s, with ``missed`` as the reason: "The bad mark did not reach the desk"."""
    for _ in range(_LOOKS):
        value = await look()
        if value is not None:
            return value
        await asyncio.sleep(_LOOK_EVERY_S)
    raise LocalRuntimeError(_MISSED.format(missed=missed))
