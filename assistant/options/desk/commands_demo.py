"""The story at the desk that ``assistant demo`` tells: a bad answer, a better one, and how it is served."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from assistant.client import AssistantClient, NotAllowedError, NotThereError
from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.desk import (
    CaseApproval,
    CaseReason,
    CaseResolution,
    CaseState,
    DeskCase,
    ItemState,
    NewApprovedAnswer,
    StateChange,
    case_id,
)
from assistant.domain.errors import LocalRuntimeError
from assistant.domain.identity import Role
from assistant.laptop.tokens import Grant
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
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DeskStory:
    """Two agents and two reviewers of one tenant, each signed in.

    The first agent marks an answer bad with a better text, the reviewer proposes it as an approved answer,
    and the next agent gets it.
    """

    terminal: Terminal
    first: AssistantClient
    """The agent who marks the answer, amira."""
    next: AssistantClient
    """The agent who asks afterwards, noor."""
    reviewer: AssistantClient
    """The reviewer who proposes, rosa."""
    second: AssistantClient
    """The reviewer who approves where two people are needed, samuel."""

    async def tell(self) -> None:
        """Tell the story. Its approved answer stays, for the console, until the next demo.

        Raises LocalRuntimeError when a step does not happen in time, RefusedByServiceError, UnreachableError.
        """
        await self._begin_anew()
        self._tell("amira, agent", f"asks: {_ASKED}")
        printer = await answer_on(self.terminal.detail, self.first, question_of(_ASKED))
        if (answer_id := printer.answer_id) is None:
            raise LocalRuntimeError("The answer came without an id. See the logs in .state/logs.")
        verdict = Verdict(
            verdict_id=uuid.uuid4().hex,
            label=VerdictLabel.BAD,
            reasons=("incomplete",),
            better_text=_BETTER,
        )
        await self.first.give_verdict(answer_id, verdict)
        marked_s = time.monotonic()
        self._tell("amira, agent", f"marks it bad, with a better text: {_BETTER}")
        case = await self._case_of(answer_id)
        self._tell(
            "rosa, reviewer",
            f"finds the case at the desk after {time.monotonic() - marked_s:.1f} s",
            is_detail=True,
        )
        await self._approve(await self._propose(case))
        approved_s = time.monotonic()
        next_answer = await _until(
            lambda: self._answer_if(_ASKED_NEXT, has_better=True),
            missed="The approved answer was not served",
        )
        changed_s = time.monotonic() - approved_s
        self._tell("noor, agent", f"asks: {_ASKED_NEXT}")
        if (offered := next_answer.offered) is not None:
            self.terminal.show(f"Offered, approved for “{offered.question}”:\n{offered.text}")
        else:
            self.terminal.show(next_answer.text)
        self._tell("", f"The answer changed {changed_s:.1f} s after the approval.")

    async def _case_of(self, answer_id: str) -> DeskCase:
        """Return the case that the bad mark opens."""

        async def look() -> DeskCase | None:
            try:
                return await self.reviewer.read_case(case_id(answer_id, CaseReason.BAD_VERDICT))
            except NotThereError:
                return None

        return await _until(look, missed="The bad mark did not reach the desk")

    async def _propose(self, case: DeskCase) -> DeskCase:
        """Resolve the case with its better text. Return the case: resolved, or proposed under ``hipaa``."""
        answer = NewApprovedAnswer(
            questions=(_ASKED,),
            text=case.better_text or _BETTER,
            expires_on=(datetime.now(UTC) + _APPROVED_LIFE).date(),
        )
        resolution = CaseResolution(revision=case.revision, kind="approved_answer", approved_answer=answer)
        proposed = await self.reviewer.resolve_case(case.case_id, resolution)
        self._tell("rosa, reviewer", "proposes the better text as an approved answer", is_detail=True)
        return proposed

    async def _approve(self, proposed: DeskCase) -> None:
        """Approve by a second person, where the tenant's profile asks for one."""
        if proposed.case.state is CaseState.PROPOSED:
            approval = CaseApproval(revision=proposed.revision, approve=True)
            try:
                await self.reviewer.approve_case(proposed.case_id, approval)
            except NotAllowedError:
                self._tell(
                    "rosa, reviewer",
                    "may not approve what she proposed: that takes a second person",
                    is_detail=True,
                )
            await self.second.approve_case(proposed.case_id, approval)
            self._tell("samuel, reviewer", "reads it and approves it")

    async def _answer_if(self, question: str, *, has_better: bool) -> wire.WholeAnswer | None:
        """Ask as the next agent. Return the answer if it serves or offers ``_BETTER``; with ``has_better``
        false, if it does not. Else None."""
        answer = await self.next.ask(question)
        offered = answer.offered.text if answer.offered is not None else ""
        return answer if (_BETTER in answer.text + offered) is has_better else None

    async def _begin_anew(self) -> None:
        """Withdraw the approved answer of an earlier demo, and wait until it is gone."""
        items = (await self.second.list_items(kind="approved_answer")).items
        live = [item for item in items if item.state is ItemState.LIVE]
        earlier = [item for item in live if item.approved_answer and item.approved_answer.text == _BETTER]
        for item in earlier:
            change = StateChange(revision=item.revision, state="withdrawn", note="A new demo begins.")
            await self.second.set_item_state("approved_answer", item.item_id, change)
        if earlier:
            await _until(
                lambda: self._answer_if(_ASKED, has_better=False), missed="The old answer did not go"
            )

    def _tell(self, who: str, what: str, *, is_detail: bool = False) -> None:
        """Print a line of the story: "amira, agent     asks: …"."""
        terminal = self.terminal.detail if is_detail else self.terminal
        terminal.out.print(styled((f"{who:<18}", "bold cyan"), (what, "")))


async def tell_desk_story(runtime: LocalRuntime, terminal: Terminal, tenant: str) -> None:
    """Sign four people in and tell the story. Raises as ``DeskStory.tell``."""
    async with AsyncExitStack() as stack:

        async def signed_in(name: str, role: Role) -> AssistantClient:
            grant = Grant(tenant, name, roles=(role,))
            return await stack.enter_async_context(runtime.client(grant))

        story = DeskStory(
            terminal,
            first=await signed_in("amira", Role.AGENT),
            next=await signed_in("noor", Role.AGENT),
            reviewer=await signed_in("rosa", Role.REVIEWER),
            second=await signed_in("samuel", Role.REVIEWER),
        )
        await story.tell()


async def _until(look: Callable[[], Awaitable[T | None]], *, missed: str) -> T:
    """Call ``look`` every second until it does not return None, and return that. Raises LocalRuntimeError
    after 30 s, with ``missed`` as the reason: "The bad mark did not reach the desk"."""
    for _ in range(_LOOKS):
        value = await look()
        if value is not None:
            return value
        await asyncio.sleep(_LOOK_EVERY_S)
    raise LocalRuntimeError(_MISSED.format(missed=missed))
