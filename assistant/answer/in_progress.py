"""An answer while it is sent: its plan's events, and the two halves of its record."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from assistant.answer.ask_json import Told
from assistant.answer.check import AnswerText, TextEvents
from assistant.answer.check_model import CheckByModel, Claim, SourceLine, Verdicts
from assistant.answer.end import (
    CANCELLED_PROBLEM,
    EMPTY,
    WITHHELD,
    DescribeEnd,
    end_of_plan,
    why_early,
)
from assistant.answer.events import (
    AnswerEvent,
    Checked,
    Done,
    Preview,
    Problem,
    RedFlags,
    Sources,
    Started,
)
from assistant.answer.find import KEPT_CANDIDATES, Finding
from assistant.answer.plan import Nothing, Plan, Quoted, Written
from assistant.answer.prompt import PROMPT, BuildPrompt, Prompt
from assistant.answer.read_model import ModelReading
from assistant.answer.scores import shipped_weights
from assistant.answer.section import MakeQuote, Quote, shown_section
from assistant.answer.services import TenantServices
from assistant.answer.text_end import CANCELLED, DISCONNECTED, TextEnd
from assistant.answer.widen import ReadingBeside, WidenSearch
from assistant.answer.write import ModelText
from assistant.domain.answers import (
    AlsoPossible,
    AnswerEnding,
    ApprovedUse,
    BegunAnswer,
    CandidateDocument,
    CitedUnit,
    EndedAnswer,
    Mode,
    Outcome,
    PassageUse,
    RedFlag,
    SentenceCheck,
    SourceAsked,
    Usage,
)
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language

_HEAD_START_S = 0.001
"""Pause after the request to the model is begun, so that its task sends it before the sources are made: these
take the event loop for longer than this, and the model takes many times as long to begin."""
_NOT_ANSWERED = "The documents that were read do not answer this question."
_WORST_FIRST = ("failed", "late", "answered", "empty", "not_asked")
"""States of a source of documents: of several questions the first of these counts."""
_WEIGHTS = ("ranker", "reranker", "reranker_vectors", "units", "unit_vectors", "near")


@dataclass(frozen=True, slots=True)
class AnswerSteps:
    """The steps that are made while an answer is sent."""

    widen: WidenSearch
    prompt: BuildPrompt
    quote: MakeQuote
    describe: DescribeEnd
    check: CheckByModel


class AnswerInProgress:
    """One answer while it is sent (``plan.InProgress``).

    A fallback is another plan: where a model's text cannot be shown, ``plan`` becomes ``Quoted``, or
    ``Nothing`` where the model says that the documents do not answer.

    Example::

        progress = AnswerInProgress(services, plan, quoting, describe, settings_hash="…")
        async with aclosing(send(progress, records)) as events: ...
    """

    def __init__(
        self, services: TenantServices, plan: Plan, steps: AnswerSteps, *, settings_hash: str
    ) -> None:
        self._services, self._steps, self._settings_hash = services, steps, settings_hash
        self.plan: Plan = plan
        self.call = plan.basis.call
        self._question = plan.basis.question
        self._quote = None if isinstance(plan, Written) else plan.quote.without_scores()
        """None until ``open`` has made it beside the model."""
        first = plan.findings[0] if isinstance(plan, Written) else plan.quote.parts[0].finding
        self._index_version = first.retrieved.index_version
        self._prompt = plan.prompt if isinstance(plan, Written) else None
        self._model: ModelText | None = None
        """None where no model writes, and until ``open``."""
        self._text = self._text_of(self._prompt)
        self._named_flags: tuple[RedFlag, ...] = ()
        """Red flags that the model's reading names beside those of the plan."""
        self._begun: BegunAnswer | None = None
        self._told: Told[ModelReading] | None = None
        """The model's reading, once it came in time."""
        self._claims, self._lines = list[tuple[int, Claim]](), list[tuple[SourceLine, CitedUnit]]()
        """What the model checks, as ``AnswerText.claims`` has it."""
        self._checking: asyncio.Task[Told[Verdicts] | None] | None = None
        self._model_end: TextEnd | None = None
        """How the model's text ended; None where none was asked, and before."""
        self._ended_by: TextEnd | None = TextEnd(code=AssistantError.code)
        """What ended the events before their end; until this is known, an unexpected error. None at their
        end."""
        self._done = AnswerEnding()
        self._reason: str | None = None
        """What ``ended`` found, for the last event."""

    def _text_of(self, prompt: Prompt | None) -> AnswerText:
        basis = self.plan.basis
        return AnswerText(
            prompt=prompt,
            language=language(self._services.tenant.language),
            hydration=basis.hydration,
            asked=tuple(dict.fromkeys(element.slot for element in basis.live.answering)),
        )

    async def open(self) -> AsyncGenerator[Preview | RedFlags | Sources, None]:
        """Send the request to the model, and make the quote beside it; first, where the model reads the
        conversation, show what its words alone find. Raises SearchUnavailableError, DeadlineExceededError."""
        if isinstance(self.plan, Written) and self.call.interruption.end is None:
            if self.plan.widens and self.plan.basis.read is not None:
                if preview := await self._preview(self.plan):
                    yield Preview(section=preview)
                self.plan = await self._widened(self.plan, self.plan.basis.read)
            findings, prompt = self.plan.findings, self.plan.prompt
            if prompt is not self._prompt:  # of wider searches
                self._prompt, self._text = prompt, self._text_of(prompt)
            self._model = ModelText(self._services, prompt, self._question.ids, self.call)
            self._model.begin()
            await asyncio.sleep(_HEAD_START_S)
            quote = await self._steps.quote.run(findings, prompt, self._question.identity, self.call)
            self._quote = quote.without_scores()
            self.plan = replace(self.plan, findings=())  # frees the scores while a model writes
        quote = self._shown_quote()
        for event in self._flags_named():
            yield event
        yield Sources(sources=quote.sources, section=quote.section, offered=quote.offered)

    async def _preview(self, plan: Written) -> AlsoPossible | None:
        """Return the section that the conversation's own words find; None where none is near."""
        quote = await self._steps.quote.run(plan.findings, None, self._question.identity, self.call)
        section, is_found = quote.parts[0].section, quote.parts[0].is_found
        return shown_section(section, quote.blocks) if section is not None and is_found else None

    async def _widened(self, plan: Written, read: ReadingBeside) -> Written:
        """Return the plan with what the model's own searches find."""
        asked, left_out = await self._steps.widen.run(read, plan.findings, self.call)
        if not asked:
            basis = plan.basis
            return replace(plan, basis=replace(basis, degraded=(*basis.degraded, *left_out)))
        prompt = self._steps.prompt.run(self._question, plan.findings, plan.answer, self.call, asked=asked)
        return replace(plan, findings=asked[:1], prompt=prompt) if prompt is not None else plan

    def _flags_named(self) -> Iterator[RedFlags]:
        """Yield the emergency that the model's reading names beside those of the heads, once it is there;
        an event without any where it names none, and the message's language was unchecked until then."""
        read = self.plan.basis.read
        if self._told is not None or read is None:
            return
        self._told = read.told
        self._begun = self._begun if self._told is None else None  # the record has what the model read
        name = self._told.value.emergency if self._told is not None else None
        known = {flag.name for flag in self.plan.basis.red_flags.flags}
        self._named_flags = tuple(
            RedFlag(name=flag.name, text=flag.text, call=flag.call)
            for flag in self._services.tenant.red_flags
            if flag.name == name and name not in known
        )
        was_unchecked = self.plan.basis.reading.unchecked_language is not None
        if self._named_flags or (was_unchecked and self._told is not None):
            yield RedFlags(red_flags=self._named_flags)

    def _shown_quote(self) -> Quote:
        """Return the quote; of an answer that ended before it was made, the sources of the prompt alone."""
        if self._quote is None and isinstance(self.plan, Written):
            quote = self._steps.quote.of_prompt(self.plan.findings, self.plan.prompt, self._question.identity)
            self._quote = quote.without_scores()
        if self._quote is None:
            raise RuntimeError("A plan has a quote, or findings to make it from.")
        return self._quote

    # The record's first half

    def begun(self) -> BegunAnswer:
        if self._begun is not None:
            return self._begun
        services, question, basis = self._services, self._question, self.plan.basis
        quote, prompt, context, ids = self._shown_quote(), self._prompt, question.context, question.ids
        first, offered, model = quote.parts[0].finding, quote.offered, services.writer.model
        generation, live = services.tenant.generation, basis.live
        read: dict[str, Any] = {"elements": tuple(element.slot.type.name for element in live.answering)}
        if self._told is not None and self._told.value.language != services.tenant.language:
            read["language"] = self._told.value.language
        asked_for = question.request.max_tokens or generation.max_tokens
        longest = prompt.max_tokens if prompt else min(asked_for, generation.max_tokens)
        self._begun = BegunAnswer(
            answer_id=ids.answer_id,
            conversation_id=ids.conversation_id,
            agent=question.identity.agent,
            customer=context.customer if context else None,
            chat=next(iter(context.ids.get("chat", ())), None) if context else None,
            asked_at=ids.asked_at,
            context_id=context and context.token_id,
            written_at=question.request.written_at,
            question=question.text,
            retrieval_question="\n".join(dict.fromkeys(part.finding.searched for part in quote.parts)),
            filters=question.request.filters,
            labels=tuple(sorted(question.identity.labels)),
            follows=question.turns[-1].answer_id if question.turns else None,
            reading=basis.reading.kept.model_copy(update=read),
            red_flags=tuple(flag.name for flag in (*basis.red_flags.flags, *self._named_flags)),
            unchecked_language=basis.reading.unchecked_language if self._told is None else None,
            index_version=self._index_version,
            passages=_uses_of_passages(quote, prompt),
            gate=first.gate,
            candidates=_candidates_of(first),
            live_matches=live.matches,
            offered=ApprovedUse(item_id=offered.item_id, revision=offered.revision) if offered else None,
            prompt_id=PROMPT,
            prompt_hash=prompt.prompt_hash if prompt else None,
            dropped_passages=prompt.dropped_documents if prompt else 0,
            model_id=model.model_id,
            model_digest=model.digest,
            parameters={
                "max_tokens": longest,
                "temperature": generation.temperature,
                "history_turns": prompt.history_turns if prompt else 0,
            },
            settings_hash=self._settings_hash,
            weights=_weights(first),
            trace_id=self.call.steps.trace_id,
        )
        return self._begun

    def started(self, *, resumable: bool) -> Started:
        plan, ids = self.plan, self._question.ids
        return Started(
            answer_id=ids.answer_id,
            conversation_id=ids.conversation_id,
            model=self._services.writer.model.model_id,
            index_version=self._index_version,
            trace_id=self.call.steps.trace_id,
            resumable=resumable,
            red_flags=plan.basis.red_flags.flags,
            unchecked_language=plan.basis.reading.unchecked_language,
            recorded_model=self._services.writer.model.recorded if self._prompt is not None else None,
        )

    # The events

    async def events(self) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events of the text, and of each element when it has ended; all have ended at the end.

        First the model's sentences, then its last one or the quote, then the elements that follow the text.
        """
        interruption, model = self.call.interruption, self._model
        if model is not None and interruption.end is None:
            async with aclosing(self._written(model)) as events:
                async for event in events:
                    yield event
            await model.close()
            self._model_end = model.end
        end = interruption.end if self._model_end is None else self._model_end
        if end is None or not end.is_left:
            for event in self._last_of_text():
                if model is not None:
                    model.note_first_text()
                yield event
            async with aclosing(self._element_events()) as events:
                async for event in events:
                    yield event
        self._begin_check(end)
        async for event in self._late_flags():
            yield event
        left = interruption.end or end
        self._ended_by = left if left is not None and left.is_left else None

    async def _late_flags(self) -> AsyncGenerator[RedFlags, None]:
        """Wait for the model's reading where it is not there yet, and yield the emergency that it names."""
        if self.plan.basis.read is not None and self._told is None and self.call.interruption.end is None:
            await self.plan.basis.read.wait()
        for event in self._flags_named():
            yield event

    def _begin_check(self, end: TextEnd | None) -> None:
        """Let the model check the sentences that are shown, while the record is written and the agent
        reads."""
        is_left = self.call.interruption.end is not None or (end is not None and end.is_left)
        if is_left or not (isinstance(self.plan, Written) and self._services.checks_sentences):
            return
        claims, lines = self._claims, self._lines = self._text.claims()
        limit_s, clock = self._services.tenant.limits.first_token_timeout_s, self._services.clock
        checking = self._steps.check.run(
            [claim for _, claim in claims],
            [line for line, _ in lines],
            conversation=self.plan.prompt.conversation,
            deadline=Deadline.after(limit_s, clock=clock),
        )
        self._checking = asyncio.create_task(checking)

    async def checked(self) -> Checked | None:
        if self._checking is None:
            return None
        told = await self._checking
        verdicts = told.value.sentences if told is not None else ()
        return Checked(
            by=self._services.writer.model.model_id,
            sentences=tuple(
                SentenceCheck(
                    index=index,
                    verdict=verdict.verdict,
                    words=verdict.words if verdict.words in claim.text else "",
                    cited=None if verdict.line is None else self._lines[verdict.line - 1][1],
                )
                for (index, claim), verdict in zip(self._claims, verdicts, strict=False)
            ),
        )

    async def _written(self, model: ModelText) -> AsyncGenerator[AnswerEvent, None]:
        """Yield each sentence that the model ended, and the elements that ended meanwhile."""
        text = self._text
        while not text.is_over and (part := await model.read()) is not None:
            for event in chain(self._flags_named(), text.ended_elements()):
                yield event
            for event in text.write(part):
                model.note_first_text()
                yield event

    def _last_of_text(self) -> TextEvents:
        """Yield the model's last sentence; where none was written, choose the plan in its place. Yield the
        quote of a plan that has one."""
        if self._model_end is not None:
            yield from self._last_written(self._model_end)
        if isinstance(self.plan, Quoted) and (blocks := self.plan.quote.blocks):
            # All units are added before the first is sent: so who leaves in between has the quote on record.
            yield from list(self._text.quote(blocks))

    def _last_written(self, end: TextEnd) -> TextEvents:
        text, basis, quote = self._text, self.plan.basis, self._shown_quote()
        if end.finish_reason is not None or text.is_over:
            yield from text.finish(cut_short=end.is_cut)
        if text.begun:
            return
        if text.is_refused:
            self.plan = Nothing(basis, quote, _NOT_ANSWERED)
            return
        code = why_early(text, end) or (WITHHELD if text.sentences else None)
        self.plan = Quoted(basis, quote, instead_of=code or (str(end) if end.is_cut else EMPTY))

    async def _element_events(self) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the elements that follow the text, and each element of the answer when it has ended."""
        hydration, interruption = self.plan.basis.hydration, self.call.interruption
        for event in self._text.place_asked():
            yield event
        while hydration.is_waiting and interruption.end is None:
            await hydration.change()
            for event in self._text.ended_elements():
                yield event

    def leave(self) -> None:
        """Note that nobody reads the events any more: the reading task was cancelled or its stream closed."""
        self._ended_by = CANCELLED if self.call.interruption.end == CANCELLED else DISCONNECTED

    async def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        if self._model is not None:
            await self._model.close()

    # The record's second half, and the last event

    def ended(self) -> EndedAnswer:
        """Return the second half of the record; end the trace, and all reads of live systems."""
        services, text, model, quote = self._services, self._text, self._model, self._shown_quote()
        end = self._ended_by or end_of_plan(self.plan, text, self._model_end)
        self._reason = end.reason
        hydration, steps = self.plan.basis.hydration, self.call.steps
        hydration.cancel()  # after ``end``, whose reason names only errors of the systems
        details = self._done = self._steps.describe.run(
            self.plan, text, end, quote, _asked_of(quote, services.tenant)
        )
        steps.end(end.outcome.value, error_code=end.code)
        excerpts, fields = quote.excerpts, dict[str, Any](details)
        kept_text, also = excerpts.keep(text.text), excerpts.keep_also(details.also)
        fields["also"] = also
        return EndedAnswer(
            finished_at=services.clock.now(),
            outcome=end.outcome,
            finish_reason=end.finish_reason,
            error_code=end.code,
            text=kept_text,
            sentences=tuple(text.sentences),
            removed_markers=text.removed_markers,
            usage=(model.usage if model is not None else Usage())
            + (self._told.usage if self._told is not None else Usage()),
            timings_ms=dict(steps.timings_ms),
            inference_id=model.inference_id if model else None,
            variant=model.variant if model else None,
            quoted=tuple(text.quoted),
            excerpts=excerpts.used_in(kept_text, *(part.text for part in also)),
            approved=_approved_uses(quote) if details.mode is Mode.QUOTED else (),
            elements=hydration.uses(),
            differing=_differing(quote) if details.mode is not None else (),
            **fields,
        )

    def last_event(self, ended: EndedAnswer, *, recorded: bool) -> Done | Problem | None:
        if ended.finish_reason is None:
            return CANCELLED_PROBLEM if ended.outcome is Outcome.CANCELLED else None
        return Done(
            finish_reason=ended.finish_reason,
            citations=self._text.citations,
            usage=ended.usage,
            timings_ms=ended.timings_ms,
            reason=self._reason,
            recorded=recorded,
            check_follows=self._checking is not None,
            asks=self.plan.basis.reading.kept.asks,
            **dict(self._done),  # the record has runs in place of its texts
        )


def _candidates_of(finding: Finding) -> tuple[CandidateDocument, ...]:
    """Return the best ranked documents with their features, rounded."""
    return tuple(
        CandidateDocument(
            document_id=candidate.document_id,
            score=round(candidate.score, 4),
            features={name: round(value, 4) for name, value in candidate.features.items()},
        )
        for candidate in finding.order[:KEPT_CANDIDATES]
    )


def _approved_uses(quote: Quote) -> tuple[ApprovedUse, ...]:
    """Return the approved answers that were quoted, each once."""
    served = (part.answer.use for part in quote.parts if part.answer is not None)
    return tuple({use.item_id: use for use in served if use is not None}.values())


def _uses_of_passages(quote: Quote, prompt: Prompt | None) -> tuple[PassageUse, ...]:
    """Return what the record keeps of each source: its text only by hash."""
    read = {document.n for document in prompt.documents} if prompt else ()
    return tuple(
        PassageUse(
            passage_id=passage.passage_id,
            document_id=passage.document_id,
            content_hash=passage.content_hash,
            text_hash=hashlib.sha256(passage.text.encode()).hexdigest(),
            n=n,
            rank=ranked.rank,
            fused_score=ranked.fused_score,
            lexical_rank=ranked.lexical_rank,
            lexical_score=ranked.lexical_score,
            vector_rank=ranked.vector_rank,
            cosine=ranked.cosine,
            in_prompt=n in read,
            title=passage.title,
            span=(passage.span.start, passage.span.end),
            url=passage.url,
            source=passage.source,
        )
        for n, ranked in enumerate(quote.passages, start=1)
        for passage in [ranked.passage]
    )


def _differing(quote: Quote) -> tuple[str, ...]:
    """Return the ids of the documents that give one thing different values, each once."""
    parts = (part for part in quote.parts if part.differing)
    sections = (shown for part in parts for shown in (part.section, *part.differing) if shown is not None)
    return tuple(dict.fromkeys(section.document_id for section in sections))


def _weights(finding: Finding) -> dict[str, str]:
    """Return the SHA-256 of each weights file that shaped the answer, and of the router, by kind."""
    shipped = {kind: shipped_weights(kind).sha256 for kind in _WEIGHTS}
    router = finding.routing.router if finding.routing is not None else None
    return shipped if router is None else {**shipped, "router": router}


def _asked_of(quote: Quote, tenant: TenantConfig) -> tuple[SourceAsked, ...]:
    """Return each source of documents and its part in the answer, in the order of the tenant file; nothing
    for a tenant with one source. Of several questions the mean share counts, and the worst state."""
    routed = [
        (part.finding.routing.shares, part.finding.states)
        for part in quote.parts
        if part.finding.routing is not None
    ]
    asked: list[SourceAsked] = []
    of_documents = [source for source in tenant.sources if source.kind != "live"]
    for source in of_documents if routed else ():
        name = source.name
        share = round(sum(shares[name] for shares, _ in routed) / len(routed), 4)
        parts = [
            SourceAsked(name=name, kind=source.kind, weight=share, state=states.get(name, "not_asked"))
            for _, states in routed
        ]
        asked.append(min(parts, key=lambda part: _WORST_FIRST.index(part.state)))
    return tuple(asked)
