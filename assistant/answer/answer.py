"""The use case of the product: a question becomes a streamed answer with checked sources, and a record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import ExitStack, contextmanager

from assistant.answer.adaptations import Adaptations
from assistant.answer.call import AnswerCall, SideTasks, fail_span
from assistant.answer.check_model import CheckByModel
from assistant.answer.elements import AskedLive, Hydration
from assistant.answer.embed import EmbedTexts
from assistant.answer.end import DescribeEnd
from assistant.answer.events import AnswerEvent
from assistant.answer.excerpts import shown_title
from assistant.answer.find import FindDocuments, Finding, RankByUnits
from assistant.answer.in_progress import AnswerInProgress, AnswerSteps
from assistant.answer.plan import Basis, Nothing, Plan, Quoted, Written, send
from assistant.answer.prompt import BuildPrompt, Prompt
from assistant.answer.question import RECORDS_TIMEOUT_S, AnswerIds, OpenQuestion, Question, begin_call
from assistant.answer.read import ReadQuestion
from assistant.answer.read_model import ReadByModel
from assistant.answer.record import RecordWriter
from assistant.answer.request import AnswerRequest
from assistant.answer.section import MakeQuote, Quote
from assistant.answer.services import TenantServices
from assistant.answer.widen import ReadingBeside, WidenSearch
from assistant.domain.answers import LiveMatchState, Reading
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError
from assistant.domain.identity import CareContext, Identity
from assistant.stores.index.watch import IndexState

_NOTHING_ASKED = "The message thanks or greets: there is nothing to answer."
_LEANS = (
    "This question makes no sense without the one before it. No model has read the two together. "
    "Ask it in full."
)


class AnswerQuestion:
    """Answers questions of one tenant's agents. One instance serves all requests of a process.

    Two halves, so that an error before the first event can still be an HTTP status::

        plan = await answer_question.prepare(request, identity=identity, deadline=deadline)
        async with aclosing(answer_question.stream(plan)) as events:
            async for event in events: ...

    ``prepare`` makes frozen values in one direction, each by a class of its own module; ``stream`` sends the
    plan's events and keeps its record::

        request → Question → MessageReading → Finding of each part → Written | Quoted | Nothing
        plan → AnswerInProgress → BegunAnswer, events, EndedAnswer
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self._settings_hash = services.tenant.settings_hash()
        self.adaptations = Adaptations(services)
        self.embed = EmbedTexts(services)
        by_units = RankByUnits(self.adaptations)
        self.open_question = OpenQuestion(services)
        self.read = ReadQuestion(services, self.adaptations, self.embed)
        self.find = FindDocuments(services, self.adaptations, by_units)
        self.widen = WidenSearch(self.embed, self.find)
        self.prompt = BuildPrompt(services, self.adaptations)
        self.read_model = ReadByModel(services) if services.writes_answers else None
        self.check = CheckByModel(services)
        self.quote = MakeQuote(services, self.adaptations, by_units)
        self.describe = DescribeEnd(services)
        self.records = RecordWriter(services.records, timeout_s=RECORDS_TIMEOUT_S, clock=services.clock)

    async def prepare(
        self,
        request: AnswerRequest,
        *,
        identity: Identity,
        deadline: Deadline,
        context: CareContext | None = None,
        ids: AnswerIds | None = None,
    ) -> Plan:
        """Find the documents, choose who gives the text, begin the live reads; return the plan.

        ``ids``: of a caller that needs them early; None: they are made here. ``context``: whose live data may
        be read, already verified; None: nobody's.

        Raises NotFoundError (no such conversation, or another agent's), InvalidRequestError (a chat without a
        customer's message), TooLargeError (the question does not fit the model's context),
        EmbeddingUnavailableError, SearchUnavailableError, RecordsUnavailableError,
        OverloadedError, DeadlineExceededError. Nothing is recorded then.
        """
        services = self._services
        services.index_watch.require_own()
        ids = ids or AnswerIds.of(request, services)
        call = begin_call(services, ids, labels=identity.labels, deadline=deadline, filters=request.filters)
        with ended_on_error(call) as on_error, SideTasks() as beside:
            question = await self.open_question.run(
                request, identity=identity, ids=ids, call=call, context=context
            )
            last_answer = beside.begin(self.open_question.last_answer(question, call))
            reading = await self.read.run(question, call)
            red_flags = beside.begin(self.read.raise_flags(question, reading, call))
            read = self._begin_reading(question, call)
            if read is not None:
                on_error.callback(read.cancel)
            findings = await self.find.run(reading.parts, call)
            index, not_found = await self._index_state(findings, call)
            hydration = Hydration(services, reading.caller, deadline=deadline)
            on_error.callback(hydration.cancel)
            call.interruption.when_left(hydration.cancel)

            async def basis(live: AskedLive, index: IndexState, *left_out: str) -> Basis:
                flags = await red_flags
                degraded = (*reading.degraded, *not_found, *left_out, *flags.degraded)
                return Basis(question, reading, flags, index, live, hydration, degraded, call, read)

            answer = await last_answer
            if prompt := self.prompt.run(question, findings, answer, call):
                live = hydration.ask(reading.live)  # elements that the text names are read when it names them
                return Written(await basis(live, index), findings, prompt, answer, question.is_chat)
            if read is not None and (found := await self._as_read(question, findings, answer, read, call)):
                return Written(await basis(hydration.ask(reading.live), index), *found, answer)
            asked_live = {part for part, match in reading.live if match.state is LiveMatchState.READ}
            quote = await self.quote.run(findings, None, identity, call, of_systems=asked_live)
            live = hydration.ask(reading.live, named=quote.elements, answered=quote.answered)
            for name in quote.elements:
                hydration.begin(name)
            if len(quote.answered) < len(quote.parts):
                # A damaged index must never look like "not known".
                await services.index_watch.require_complete(deadline=deadline)
                index = services.index_watch.state
            rests_on = await basis(live, index, *quote.degraded)
            if quote.answered:
                return Quoted(rests_on, quote)
            return Nothing(rests_on, quote, _why_nothing(quote, reading.kept))

    def stream(self, plan: Plan, *, resumable: bool = False) -> AsyncGenerator[AnswerEvent, None]:
        """Return the events of the plan, as ``send`` yields them; they can be read once."""
        steps = AnswerSteps(self.widen, self.prompt, self.quote, self.describe, self.check)
        progress = AnswerInProgress(self._services, plan, steps, settings_hash=self._settings_hash)
        return send(progress, self.records, resumable=resumable)

    def _begin_reading(self, question: Question, call: AnswerCall) -> ReadingBeside | None:
        """Begin to let the model read the conversation beside the search; it goes on while the plan is sent.
        A single message is read for an emergency, and searched as read only where its own words find nothing
        near. None where no model reads it."""
        tenant, is_auto = self._services.tenant, question.request.mode == "auto"
        is_read = tenant.generation.reads and is_auto and (question.is_chat or bool(tenant.red_flags))
        if self.read_model is None or not is_read:
            return None
        block = self.prompt.block(question.conversation, at=question.written)
        reading = ReadingBeside(asyncio.create_task(self.read_model.run(block, deadline=call.deadline)))
        call.interruption.when_left(reading.cancel)
        return reading

    async def _as_read(
        self,
        question: Question,
        findings: Sequence[Finding],
        answer: str,
        read: ReadingBeside,
        call: AnswerCall,
    ) -> tuple[tuple[Finding, ...], Prompt] | None:
        """Return what the model's own searches find where the conversation's words find nothing near, and the
        prompt of it; None where they find nothing either, or an option answers."""
        if any(offered.answers for finding in findings for offered in finding.offered):
            return None
        asked, _ = await self.widen.run(read, findings, call)
        prompt = self.prompt.run(question, findings, answer, call, asked=asked) if asked else None
        return None if prompt is None else (asked[:1], prompt)

    async def _index_state(
        self, findings: Sequence[Finding], call: AnswerCall
    ) -> tuple[IndexState, tuple[str, ...]]:
        """Return whether the index has all documents of the sources whose documents were read, and the steps
        that were left out: sources, and this check where the answer to it is unknown."""
        left_out = [step for finding in findings for step in finding.degraded]
        sources = self._services.sources_of(name for part in findings for name in part.documents)
        index = await self._services.index_watch.state_for(sources, deadline=call.deadline)
        if not index.loading and not index.is_whole(sources):
            left_out.append("check of the index")
        return index, tuple(left_out)


def _why_nothing(quote: Quote, reading: Reading) -> str:
    """Return for the agent why no document answers."""
    if not reading.asks:
        return _NOTHING_ASKED
    if reading.leans:
        return _LEANS
    if refusal := next((part.refusal for part in quote.parts if part.refusal), ""):
        return refusal
    best = quote.parts[0].finding.best
    if best is None:
        return "The knowledge base holds nothing that these filters and your access rights let through."
    return f"Not in the knowledge base. The nearest document is “{shown_title(best.card.title)}”."


@contextmanager
def ended_on_error(call: AnswerCall) -> Generator[ExitStack, None, None]:
    """Yield callbacks that run only if the body raises; the first ends the root span, which the stream ends
    otherwise."""
    with ExitStack() as on_error:
        on_error.callback(call.steps.root.end)
        try:
            yield on_error
        except AssistantError as error:
            fail_span(call.steps.root, error.code)
            raise
        on_error.pop_all()  # no error: forget the callbacks
