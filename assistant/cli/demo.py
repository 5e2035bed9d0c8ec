"""``assistant demo``: questions, a live order, a comparison, a story at the desk; then it serves."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import typer
from rich.text import Text
from typer import Option

from assistant.cli.ask import answer_on, question_of, sign_context
from assistant.cli.learn import learn_first_router
from assistant.cli.models import ModelOfUrl, ServedOptions, Url, use_recorded_model, use_served_model
from assistant.client import AssistantClient, NotAllowedError, NotThereError
from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.desk import (
    CaseApproval,
    CaseReason,
    CaseResolution,
    DeskCase,
    ItemState,
    NewApprovedAnswer,
    StateChange,
    case_id,
)
from assistant.domain.errors import LocalRuntimeError, NotFoundError
from assistant.domain.identity import Role
from assistant.domain.revisions import CaseState
from assistant.evaluation.fit_router import content_note
from assistant.laptop.layout import ORDER_SYSTEM
from assistant.laptop.tokens import CareCase, Grant
from assistant.service import wire
from assistant.terminal.loading import load, own_folders
from assistant.terminal.local import LocalRuntime, local_runtime
from assistant.terminal.terminal import GlobalOptions, Terminal, styled

app = typer.Typer(add_completion=False)
_AGENT = "demo"
_QUESTIONS = {
    "pharmacy": "What do I do when a delivery that must stay cold arrives warm?",
    "shop": "What is the noise level of the Pellwick Breeze 500 and of the Torvik Haze 500?",
    "clinic": "What is gestational diabetes?",
}
"""One a tenant, in the order in which they are loaded and asked. The shop's compares two items."""
_AFTER_STORY = "clinic"
"""Loading its 441 documents, of which no vectors are kept, takes longer than all the rest."""
_STORY_TENANT = "pharmacy"
"""Of the story at the desk, which its knowledge does not answer, of live data and of recorded answers."""
_LIVE_QUESTION = "Where is her order, and may I refill it?"
LIVE_CASE = CareCase("PT-204417", {"order": ("4471-2208",), "prescription": ("7301842-04417",)})
"""A customer of the sample order system (tools/systems), with an order that is late."""
_RECORDED_QUESTIONS = (
    "Her insulin came warm. What do I do first, and may she claim the cost of a cool box?",
    "A cold pack arrived melted. How long may the patient keep the medicine before I call?",
)
"""Asked where recorded answers are played: one that the documents answer in part, and one whose answer has a
phone number, changed by hand, that no document has."""
_ASKED = "My headset keeps cutting out in mid call. Where do I order a new one?"
_ASKED_NEXT = "My headset keeps cutting out in mid call. Where can I order a new one?"
_BETTER = "Order a new headset from the Equipment Desk, ext. 4990. It comes within two working days."
_APPROVED_LIFE = timedelta(days=90)
_LOOK_EVERY_S = 1.0
_LOOKS = 30
"""At most 30 s for each step that others must do. A look that asks leaves a case without an answer."""
_MISSED = "{missed} within 30 s. See the logs in .state/logs, then run the demo again."
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Demo:
    """The demo's steps, while the processes run."""

    runtime: LocalRuntime
    terminal: Terminal
    plays_recording: bool

    async def run(self) -> None:
        """Load and ask the demo's tenants, and tell the story at the desk."""
        tenants = [tenant for tenant in _QUESTIONS if tenant in self.runtime.tenants]
        for tenant in tenants:
            if tenant != _AFTER_STORY:
                await self.load_and_ask(tenant)
        if _STORY_TENANT in tenants:
            await _tell_desk_story(self.runtime, self.terminal, tenant=_STORY_TENANT)
        if _AFTER_STORY in tenants:
            await self.load_and_ask(_AFTER_STORY)

    async def load_and_ask(self, tenant: str) -> None:
        """Load one of the demo's tenants, ask its questions, and learn its router where it has none."""
        await self.load(tenant)
        await self.ask(tenant, _QUESTIONS[tenant])
        if tenant == _STORY_TENANT and self._has_order_system(tenant):
            await self.ask(tenant, _LIVE_QUESTION, LIVE_CASE)
        for question in _RECORDED_QUESTIONS if self.plays_recording and tenant == _STORY_TENANT else ():
            await self.ask(tenant, question)
        await self.learn_router(tenant)

    async def load_others(self) -> None:
        """Load the tenants that the demo asks nothing, for the console."""
        for tenant in [tenant for tenant in self.runtime.tenants if tenant not in _QUESTIONS]:
            try:
                await self.load(tenant)
            except NotFoundError as error:  # a missing folder of another tenant does not end the demo
                self.terminal.step(f"{tenant}: not loaded: {error.message}")

    def _has_order_system(self, tenant: str) -> bool:
        """Return whether the sample order system runs for the tenant: in a checkout, with its own file."""
        entries = self.runtime.layout.sample_systems.get(ORDER_SYSTEM, ())
        return tenant in {name for name, _ in entries}

    async def load(self, tenant: str) -> None:
        """Load the tenant file's knowledge; unchanged documents cost nothing."""
        folders = own_folders(self.runtime.options, tenant)
        report = await load(self.runtime, tenant, folders)
        summary = report.summary
        new = summary.added + summary.changed
        self.terminal.step(f"{tenant}: {summary.documents} documents, {new} new, in {report.seconds:.1f} s")
        for remark in report.remarks():
            self.terminal.step(f"{tenant}: {remark}")

    async def learn_router(self, tenant: str) -> None:
        """Learn how much each source matters, where the tenant has questions for that and no router yet."""
        learned = await learn_first_router(self.runtime, tenant=tenant)
        if learned is not None:
            self.terminal.step(f"{tenant}: learned which source matters: {content_note(learned.content)}")

    async def ask(self, tenant: str, question: str, case: CareCase | None = None) -> None:
        """Stream one answer with its sources, and with live data where it is a customer's conversation."""
        out = self.terminal.out
        out.print()
        out.print(styled((f"{tenant}  ", "bold cyan"), (question, "bold")))
        context = None
        if case is not None:
            context = sign_context(self.runtime.options, self.runtime.tenants[tenant], _AGENT, case)
            customer = case.customer
            self.terminal.show(
                f"in the conversation of customer {customer}, signed by the care application", "dim"
            )
        async with self.runtime.client(Grant(tenant, _AGENT)) as client:
            await answer_on(self.terminal, client, question_of(question, context=context))
        out.print()


@dataclass(frozen=True, slots=True)
class _DeskStory:
    """Two agents and two reviewers of one tenant, each signed in."""

    terminal: Terminal
    first: AssistantClient
    next: AssistantClient
    reviewer: AssistantClient
    second: AssistantClient

    async def tell(self) -> None:
        """Tell the story. Its approved answer stays, for the console, until the next demo.

        Raises LocalRuntimeError when a step does not happen in time, RefusedByServiceError, UnreachableError.
        """
        await self._begin_anew()
        self._tell("amira, agent", f"asks: {_ASKED}")
        printer = await answer_on(self.terminal, self.first, question_of(_ASKED))
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
        self._tell("rosa, reviewer", f"finds the case at the desk after {time.monotonic() - marked_s:.1f} s")
        await self._approve(await self._propose(case))
        approved_s = time.monotonic()
        next_answer = await _until(
            lambda: self._answer(_ASKED_NEXT, is_approved=True), missed="The approved answer was not served"
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
        answer = NewApprovedAnswer(
            questions=(_ASKED,),
            text=case.better_text or _BETTER,
            expires_on=(datetime.now(UTC) + _APPROVED_LIFE).date(),
        )
        asked = CaseResolution(revision=case.revision, kind="approved_answer", approved_answer=answer)
        proposed = await self.reviewer.resolve_case(case.case_id, asked)
        self._tell("rosa, reviewer", "proposes the better text as an approved answer")
        return proposed

    async def _approve(self, proposed: DeskCase) -> None:
        """Approve by a second person, where the tenant's profile asks for one."""
        if proposed.case.state is CaseState.PROPOSED:
            approval = CaseApproval(revision=proposed.revision, approve=True)
            try:
                await self.reviewer.approve_case(proposed.case_id, approval)
            except NotAllowedError:
                self._tell("rosa, reviewer", "may not approve what she proposed: that takes a second person")
            await self.second.approve_case(proposed.case_id, approval)
            self._tell("samuel, reviewer", "reads it and approves it")

    async def _answer(self, question: str, *, is_approved: bool) -> wire.WholeAnswer | None:
        """Ask as the next agent; None where the approved answer is not, or still is, served or offered."""
        answer = await self.next.ask(question)
        offered = answer.offered.text if answer.offered is not None else ""
        return answer if (_BETTER in answer.text + offered) is is_approved else None

    async def _begin_anew(self) -> None:
        """Withdraw the approved answer of an earlier demo, and wait until it is gone."""
        items = (await self.second.list_items(kind="approved_answer")).items
        live = [item for item in items if item.state is ItemState.LIVE]
        left = [item for item in live if item.approved_answer and item.approved_answer.text == _BETTER]
        for item in left:
            change = StateChange(revision=item.revision, state="withdrawn", note="A new demo begins.")
            await self.second.set_item_state("approved_answer", item.item_id, change)
        if left:
            await _until(lambda: self._answer(_ASKED, is_approved=False), missed="The old answer did not go")

    def _tell(self, who: str, what: str) -> None:
        self.terminal.out.print(styled((f"{who:<18}", "bold cyan"), (what, "")))


async def _tell_desk_story(runtime: LocalRuntime, terminal: Terminal, *, tenant: str) -> None:
    """Sign four people in and tell the story. Raises as ``_DeskStory.tell``."""
    async with AsyncExitStack() as stack:

        async def signed_in(name: str, role: Role) -> AssistantClient:
            grant = Grant(tenant, name, roles=(role,))
            return await stack.enter_async_context(runtime.client(grant))

        story = _DeskStory(
            terminal,
            first=await signed_in("amira", Role.AGENT),
            next=await signed_in("noor", Role.AGENT),
            reviewer=await signed_in("rosa", Role.REVIEWER),
            second=await signed_in("samuel", Role.REVIEWER),
        )
        await story.tell()


async def _until(look: Callable[[], Awaitable[T | None]], *, missed: str) -> T:
    """Return what ``look`` finds. Raises LocalRuntimeError after 30 s."""
    for _ in range(_LOOKS):
        value = await look()
        if value is not None:
            return value
        await asyncio.sleep(_LOOK_EVERY_S)
    raise LocalRuntimeError(_MISSED.format(missed=missed))


@app.command()
def demo(
    context: typer.Context,
    exit_: Annotated[bool, Option("--exit", help="Stop after the answers (also with CI=true).")] = False,
    url: Url = None,
    model: ModelOfUrl = None,
) -> None:
    """Start all tenants, answer four questions, change an answer at the desk, then serve until Ctrl-C.

    With a model, its tenants' answers are written by it, as after: assistant models use. The model
    "recorded" plays committed answers of a language model, and says so beside each."""
    options, terminal = GlobalOptions.of(context), Terminal(steps=True)
    served = ServedOptions(url, model)
    asked = [tenant for tenant in options.tenants().tenants if tenant in _QUESTIONS]
    if served.plays_recording:
        use_recorded_model(options, tenants=asked)
    else:
        served.check(others=url is None)
        if url is not None:
            use_served_model(options, tenants=asked, served=served)
    runtime = local_runtime(options, terminal)
    ends, is_serving = exit_ or runtime.settings.in_ci, False
    try:
        with runtime.site(command="assistant demo", stays=not ends, shows=True):
            if runtime.own is None:
                terminal.step(f"joining what runs already, of {runtime.address.command}")
            steps = _Demo(runtime, terminal, served.plays_recording)
            asyncio.run(steps.run())
            if ends:
                terminal.step("the demo has ended; without --exit the console serves from here")
                return
            asyncio.run(steps.load_others())
            is_serving = True
            _show_console(terminal, runtime)
            if runtime.own is not None:
                runtime.serve()
        runtime.serve()  # of another command, which need not wait for this one
    except KeyboardInterrupt:  # the usual end of this command
        if not is_serving:
            raise
        terminal.step("stopped")


def _show_console(terminal: Terminal, runtime: LocalRuntime) -> None:
    end = "Ctrl-C stops everything."
    if runtime.own is None:
        end = (
            f"This service is of {runtime.address.who}. Ctrl-C ends this command alone; the service stops "
            "with that one. assistant tenant down stops it at once."
        )
    url = runtime.address.service
    terminal.out.print(Text("Console  ", style="bold").append(f"{url}/", style="underline cyan"))
    terminal.show(
        f"Sign in there as any agent of {' or '.join(runtime.tenants)}; the role knowledge_owner shows the "
        f"documents, auditor everybody's answers.\n{end}",
        "dim",
    )
