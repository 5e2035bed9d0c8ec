"""Writes a reply to one person: from the conversation, the answer that the agent read, and its lines, in the
tenant's tone. Where nothing answers it is a holding reply.

The lines are the units of documents that the answer cites or quotes, read again from the store as the agent's
labels allow. A reply is kept as a record of its own: ``reply_to`` is the id of the answer, and so is its
``conversation_id``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from opentelemetry.trace import SpanKind
from pydantic import model_validator

from assistant.answer.answer import AnswerQuestion, ended_on_error
from assistant.answer.call import AnswerCall, InterruptedAnswerError
from assistant.answer.check_model import Claim, SourceLine, Verdict
from assistant.answer.elements import all_labels
from assistant.answer.events import AnswerEvent, Checks, Done, Sources, Started, Token
from assistant.answer.excerpts import fill_record, gone_from, read_excerpts, shown_unit
from assistant.answer.live_macs import LiveMacs
from assistant.answer.plan import send
from assistant.answer.prompt import Prompt, count_tokens, load_prompt, rendered
from assistant.answer.question import AnswerIds, begin_call
from assistant.answer.quoting import neutralise, quoted
from assistant.answer.red_flags import foreign_language
from assistant.answer.request import AnswerRequest
from assistant.answer.services import TenantServices
from assistant.answer.text_end import CANCELLED, DISCONNECTED, TextEnd
from assistant.answer.write import ModelText
from assistant.domain.answers import (
    MOST_SENT_CHARACTERS,
    AnswerRecord,
    BegunAnswer,
    EndedAnswer,
    FinishReason,
    Mode,
    OfConversation,
    Outcome,
    QuotedUnit,
    ReplyBody,
    ReplyCheck,
    Usage,
    source_kind,
)
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    AnswerInterruptedError,
    ConflictError,
    GenerationUnavailableError,
    TooLargeError,
    WithdrawnError,
)
from assistant.domain.identity import CareContext, Identity
from assistant.domain.live import LiveText
from assistant.domain.public import RecordId
from assistant.options.reply.prompt import PACKAGE, PROMPT, read_lines, reply_messages
from assistant.service.stored import own_answer
from assistant.tenant.tenant import RedFlagEntry, TenantConfig
from assistant.text.language import language, split_sentences
from assistant.text.markup import label_of, without_marks
from assistant.text.values import Values

REPLY_CHECK, NO_LINES = "reply_check", "no_lines"
"""In ``degraded``: the model should have checked the text, and did not (its step has this name in timings,
too); the answer's lines cannot be read any more, and nothing was checked but values."""
_ADDRESS = re.compile(
    r"\A(?:[^,.!?:\n]|(?<=\b[DM][rs])\.){1,60}(?:!|\n|,(?:(?: [A-Z]\w+){1,2}[.!])?)"
    r"|(?:(?<=[.!?])\s|\n)[^.!?:]{1,60}\Z"
)
"""A greeting, "Hello Ms. Brown,", "Thank you for writing, Ana."; a closing without the end of a sentence,
"Kind regards,\nTeresa from the refill line"."""


class ReplyRequest(AnswerRequest, ReplyBody):
    """A reply that an agent asks for."""

    reply_to: RecordId

    @model_validator(mode="after")
    def _asks(self) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class CheckedReply:
    """What is wrong with a text for a patient, by code and by the model."""

    checks: tuple[ReplyCheck, ...]
    degraded: tuple[str, ...] = ()
    """REPLY_CHECK or NO_LINES."""
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class ReplyBasis:
    """What a reply may be written from, and what it is checked against."""

    record: AnswerRecord
    """The answer's."""
    answer: str
    """Its text as the agent read it; empty where nothing answers, and where the text was cut."""
    conversation: str
    """Its block, as every prompt reads it."""
    words: str
    """All words of the conversation."""
    language: str
    """ISO 639-1 code in which the customer writes."""
    lines: tuple[SourceLine, ...]
    """Of the answer's documents."""
    live: tuple[str, ...]
    """Live values with their titles, "Order status: shipped"."""
    units: tuple[QuotedUnit, ...]
    """From where the lines are; a text that reviewers approved has none."""
    shown: tuple[LiveText, ...]
    """The live values among ``live``, which no record has: labels take their place."""
    is_gone: bool
    """Whether lines were withdrawn, or the agent may no longer read them; ``lines`` has none then."""


@dataclass(frozen=True, slots=True)
class ReplyPlan:
    """A reply that is not written yet: ``WriteReply.prepare`` makes it, ``stream`` sends it."""

    begun: BegunAnswer
    prompt: Prompt
    basis: ReplyBasis
    language: str
    """ISO 639-1 code in which it is written."""
    call: AnswerCall


def _cited(record: AnswerRecord) -> tuple[QuotedUnit, ...]:
    """Return the units of documents that an answer cites or quotes, each once. Units of approved answers are
    left out: these are read as a whole."""
    uses = {use.n: use for use in record.passages}
    cited = [
        QuotedUnit(
            document_id=uses[unit.n].document_id,
            content_hash=uses[unit.n].content_hash,
            span=(unit.start, unit.end),
        )
        for sentence in record.sentences
        for unit in sentence.cited
        if unit.n in uses
    ]
    units = [unit for unit in (*cited, *record.quoted) if source_kind(unit.document_id) != "approved"]
    return tuple({(unit.document_id, unit.span): unit for unit in units}.values())


def foreign_in(text: str, held: Values, *, but: Collection[str] = ()) -> tuple[ReplyCheck, ...]:
    """Return the sentences of a text with values and names that are not ``held``, ``but`` some values. A name
    in a greeting or closing line counts for none.

    Example: where "ships within 14 days" is held, "It ships within three weeks." has the value "3 week", and
    "Hi Ngozi, it ships within two weeks." none.
    """
    # in small letters no word is a name
    told = _ADDRESS.sub(lambda address: address[0].lower(), text.rstrip())
    return tuple(
        ReplyCheck.found("not_held", values, words=span.text, start=span.start)
        for span in split_sentences(text)
        for missing in [held.missing(told[span.start : span.end], spelled=False)]
        if (values := tuple(value for value in missing if value not in but))
    )


class WriteReply:
    """Writes replies of one tenant's agents, in the two halves of ``AnswerQuestion``.

    Example::

        request = ReplyRequest(reply_to="a1", conversation_id="a1", turns=turns, style="shorter")
        plan = await write.prepare(request, identity=ada, deadline=deadline)
        async for event in write.stream(plan): ...  # Started, Sources, Token…, Done(checks=…)
    """

    def __init__(self, services: TenantServices, answers: AnswerQuestion) -> None:
        """``answers``: of the same tenant; its writer of records keeps the replies' too, so that one
        ``settle`` waits for both."""
        self._services, self._answers = services, answers
        self._settings_hash = services.tenant.settings_hash()
        self._language = language(services.tenant.language)
        contacts = [Values.of(flag.call, self._language) for flag in services.tenant.red_flags]
        self._contacts = frozenset[str]().union(*(each.quantities.bare | each.moments for each in contacts))
        """Numbers to call in emergencies: any text may have them, but not as an amount, "911 mg"."""

    async def basis_of(
        self,
        answer_id: str,
        conversation: OfConversation | AnswerRequest,
        live: Sequence[LiveText],
        *,
        identity: Identity,
        may_be_gone: bool = False,
    ) -> ReplyBasis:
        """Return the basis of a text for the patient, from the caller's own answer. ``live``: the live values
        of a request; those without a right MAC are left out. ``may_be_gone``: where lines are gone the rest
        is the basis.

        Raises NotFoundError, WithdrawnError, InvalidRequestError (turns without a customer's message),
        RecordsUnavailableError, DependencyError.
        """
        services = self._services
        record = await own_answer(services, answer_id, identity=identity)
        texts, units = services.documents.texts, _cited(record)
        context_tokens = services.tenant.generation.context_tokens
        lines = await read_lines(
            record, units, texts=texts, labels=identity.labels, context_tokens=context_tokens
        )
        shown = await read_excerpts(record.excerpts, texts, labels=identity.labels)
        is_gone = bool(gone_from(record, shown))
        if lines is None or is_gone:
            if not may_be_gone:
                raise WithdrawnError(
                    "A document that the answer rests on was withdrawn, or you may no longer read it. "
                    "Ask again."
                )
            lines, is_gone = [], True
        is_cut = record.finish_reason is FinishReason.LENGTH and record.mode is Mode.WRITTEN
        answer = "" if is_cut else fill_record(record, shown).text
        labels = all_labels(services)
        lines = [replace(line, text=shown_unit(line.text, labels=labels)) for line in lines]
        if record.approved and not is_gone:  # reviewers wrote it, and it is shown whole
            lines.append(SourceLine("", "", answer))
        names = {use.id: use.title or use.name for use in record.elements}
        live = LiveMacs(services, answer_id, identity.agent).genuine(live)
        values = tuple(f"{names[text.element_id]}: {text.value}" for text in live if text.element_id in names)
        spoken = await self._answers.open_question.conversation(conversation, record)
        customer = "\n".join(turn.text for turn in spoken.turns if turn.who == "customer") or spoken.words
        read = record.reading.language if record.reading is not None else None
        days = services.counted_days(spoken.words, [line.text for line in lines], at=record.written)
        return ReplyBasis(
            record=record,
            answer=answer,
            conversation=self._answers.prompt.block(spoken, at=record.written, days=days),
            words="\n".join((spoken.words, *days)),
            language=read or foreign_language(customer) or services.tenant.language,
            lines=tuple(lines),
            live=values,
            units=units,
            shown=live,
            is_gone=is_gone,
        )

    async def prepare(
        self,
        request: ReplyRequest,
        *,
        identity: Identity,
        deadline: Deadline,
        context: CareContext | None = None,
        ids: AnswerIds | None = None,
    ) -> ReplyPlan:
        """Return the plan of the reply. ``ids``: of a caller that needs them early. Raises as ``basis_of``,
        ConflictError (no model writes for this tenant), TooLargeError."""
        services = self._services
        if not services.writes_answers:
            raise ConflictError("No model writes for this tenant: write the reply yourself.")
        ids = ids or AnswerIds.of(request, services)
        call = begin_call(services, ids, labels=identity.labels, deadline=deadline)
        with ended_on_error(call):
            basis = await self.basis_of(request.reply_to, request, request.live, identity=identity)
            languages = services.tenant.answers.reply_languages
            written_in = basis.language if basis.language in languages else services.tenant.language
            prompt = self._prompt(request, basis, written_in)
        record, model = basis.record, services.writer.model
        begun = BegunAnswer(
            answer_id=ids.answer_id,
            conversation_id=ids.conversation_id,
            reply_to=request.reply_to,
            agent=identity.agent,
            asked_at=ids.asked_at,
            context_id=context and context.token_id,
            question=record.question,
            retrieval_question=record.question,
            filters=request.filters,
            labels=tuple(sorted(identity.labels)),
            index_version=record.index_version,
            passages=record.passages,
            gate=None,
            prompt_id=prompt.prompt_id,
            prompt_hash=prompt.prompt_hash,
            model_id=model.model_id,
            model_digest=model.digest,
            parameters={"max_tokens": prompt.max_tokens, "style": request.style},
            settings_hash=self._settings_hash,
            trace_id=call.steps.trace_id,
        )
        return ReplyPlan(begun, prompt, basis, written_in, call)

    def stream(self, plan: ReplyPlan, *, resumable: bool = False) -> AsyncGenerator[AnswerEvent, None]:
        """Return the events: started, sources (none), token*, checks (by code), then done with all checks.

        The tokens are not held back: the reply is checked once it is whole. Reading them raises
        GenerationUnavailableError where no reply was written. The reader must close the generator; the record
        is written however it ends.
        """
        return send(ReplyInProgress(self._services, plan, self), self._answers.records, resumable=resumable)

    async def check_text(
        self,
        answer_id: str,
        text: str,
        conversation: OfConversation,
        live: Sequence[LiveText],
        *,
        identity: Identity,
        deadline: Deadline,
        by_model: bool,
        may_be_gone: bool = False,
    ) -> CheckedReply:
        """Return what is wrong with a text of the agent's (``check``). Raises as ``basis_of``."""
        services = self._services
        ids = AnswerIds(services.new_id(), answer_id, services.clock.now())
        call = begin_call(services, ids, labels=identity.labels, deadline=deadline)
        with ended_on_error(call):
            basis = await self.basis_of(
                answer_id, conversation, live, identity=identity, may_be_gone=may_be_gone
            )
        checked = await self.check(basis, text, deadline=deadline, by_model=by_model)
        call.steps.end(Outcome.DONE.value, error_code=None)
        return checked

    async def check(
        self, basis: ReplyBasis, text: str, *, deadline: Deadline, by_model: bool = True
    ) -> CheckedReply:
        """Return what is wrong with a text, by code, and by the model where its checks are believed: the
        findings of code alone, with REPLY_CHECK in ``degraded``, where ``by_model`` is false or the model
        gives no verdict.

        The model adds findings and takes none away. Raises nothing.
        """
        by_code = self.found(basis, text)
        if basis.is_gone or not self._services.checks_sentences:
            return CheckedReply(by_code, (NO_LINES,) if basis.is_gone else ())
        told = await self._told(basis, text, deadline=deadline) if by_model else None
        if told is None:
            return CheckedReply(by_code, (REPLY_CHECK,))
        named = {check.start for check in by_code}
        more = (check for check in told.checks if check.start not in named)
        return CheckedReply((*by_code, *more), usage=told.usage)

    def found(self, basis: ReplyBasis, text: str) -> tuple[ReplyCheck, ...]:
        """Return each sentence with a value or name that no line, no live value and no word of the
        conversation has: code is sure of these."""
        parts = (part for line in basis.lines for part in (line.title, line.heading, line.text))
        given = (*parts, *basis.live, basis.words, basis.record.question)
        held = Values.joined([Values.of(part, self._language) for part in given])
        return foreign_in(text, held, but=self._contacts)

    async def _told(self, basis: ReplyBasis, text: str, *, deadline: Deadline) -> CheckedReply | None:
        """Return what the model finds in a text; None where it gives no verdict."""
        spans, tenant = split_sentences(text), self._services.tenant
        lines = [
            *basis.lines,
            *(SourceLine(tenant.display_name, "", _said(flag)) for flag in _raised(tenant, basis.record)),
            *(SourceLine("Live values of this person", "", value) for value in basis.live),
        ]
        limit_s = deadline.within_s(self._services.tenant.limits.first_token_timeout_s)
        told = await self._answers.check.run(
            [Claim(span.text) for span in spans],
            lines,
            conversation=basis.conversation,
            deadline=Deadline.after(limit_s, clock=deadline.clock),
        )
        if told is None:
            return None
        found = (
            ReplyCheck.found(
                "contradicts" if verdict.verdict == "opposite" else "not_held",
                (verdict.words,) if verdict.words and verdict.words in span.text else (),
                words=span.text,
                start=span.start,
                line=_shown(lines, verdict),
            )
            for span, verdict in zip(spans, told.value.sentences, strict=True)
            if verdict.verdict != "held"
        )
        return CheckedReply(tuple(found), usage=told.usage)

    def _prompt(self, request: ReplyRequest, basis: ReplyBasis, written_in: str) -> Prompt:
        """Return the prompt. Raises TooLargeError."""
        writer, generation = self._services.writer, self._services.tenant.generation
        template, draft = load_prompt(PROMPT, PACKAGE), request.draft
        live = "".join(f"- {quoted(value)}\n" for value in basis.live)
        flags = _raised(self._services.tenant, basis.record)
        danger = [f"This may be an emergency: {_said(flag)}.\n\n" for flag in flags[:1]]
        system, user = reply_messages(
            basis.conversation,
            basis.answer,
            basis.lines,
            tone=self._services.tenant.answers.tone,
            language=written_in,
            style=request.style,
            emergency="".join(danger),
            live=f"Live values of this person:\n{live}\n" if live else "",
            draft=f"The message so far:\n<draft>\n{neutralise(draft)}\n</draft>\n\n" if draft else "",
        )
        max_tokens, tokens = self._answers.prompt.longest_tokens, count_tokens((system, user), writer)
        if tokens > generation.context_tokens - max_tokens:
            raise TooLargeError(f"Conversation, lines and draft are {tokens} tokens, too many for a reply.")
        return Prompt(
            prompt_id=template.prompt_id,
            prompt_hash=template.sha256,
            messages=rendered((system, user), system_role=writer.model.system_role),
            prompt_tokens=tokens,
            max_tokens=max_tokens,
        )


def _raised(tenant: TenantConfig, record: AnswerRecord) -> list[RedFlagEntry]:
    return [flag for flag in tenant.red_flags if flag.name in record.red_flags]


def _said(flag: RedFlagEntry) -> str:
    return f"{flag.text} To call: {flag.call}"


def _shown(lines: Sequence[SourceLine], verdict: Verdict) -> str | None:
    """Return the line that decides as an agent reads it: "Refill too soon: Payable on day 23."."""
    if verdict.line is None:
        return None
    line = lines[verdict.line - 1]
    return f"{line.heading or line.title}: {line.text}"


class ReplyInProgress:
    """One reply while it is sent (``plan.InProgress``)."""

    def __init__(self, services: TenantServices, plan: ReplyPlan, replies: WriteReply) -> None:
        self._services, self._plan, self._replies = services, plan, replies
        self.call = plan.call
        ids = AnswerIds(plan.begun.answer_id, plan.begun.conversation_id, plan.begun.asked_at)
        self._model = ModelText(services, plan.prompt, ids, plan.call)
        self._written, self._checked = "", CheckedReply(())
        self._ended_by: TextEnd | None = DISCONNECTED
        """What ended the events before their end; None at their end."""

    def started(self, *, resumable: bool) -> Started:
        begun = self._plan.begun
        return Started(
            answer_id=begun.answer_id,
            conversation_id=begun.conversation_id,
            model=begun.model_id,
            index_version=begun.index_version,
            trace_id=begun.trace_id,
            resumable=resumable,
            language=self._plan.language,
            recorded_model=self._services.writer.model.recorded,
        )

    async def open(self) -> AsyncGenerator[Sources, None]:
        self._model.begin()
        yield Sources(sources=())

    def begun(self) -> BegunAnswer:
        return self._plan.begun

    async def events(self) -> AsyncGenerator[AnswerEvent, None]:
        model, basis = self._model, self._plan.basis
        while len(self._written) < MOST_SENT_CHARACTERS and (part := await model.read()) is not None:
            part = without_marks(part if self._written else part.lstrip())
            self._written += part
            if part:
                model.note_first_text()
                yield Token(part)
        await model.close()
        if model.failure == CANCELLED:
            self._ended_by = CANCELLED
        if model.failure is not None or not self._written.strip():
            raise GenerationUnavailableError(f"No reply was written ({model.end}). Try again.")
        by_code = self._replies.found(basis, self._written)
        yield Checks(checks=by_code)
        reading = self._replies.check(basis, self._written, deadline=self.call.deadline)
        try:
            with self.call.steps.step(REPLY_CHECK, kind=SpanKind.CLIENT):
                self._checked = await self.call.interruption.wait(reading)
        except InterruptedAnswerError:
            self._checked = CheckedReply(by_code, (REPLY_CHECK,))
        self._ended_by = None

    def ended(self) -> EndedAnswer:
        """Return the second half of the record, and end the trace. It has labels in place of live values, and
        no lines, which are words of documents."""
        model, checked, steps = self._model, self._checked, self.call.steps
        end = self._ended_by or TextEnd(FinishReason.LENGTH if model.end.is_cut else FinishReason.STOP)
        is_done = end.outcome is Outcome.DONE
        steps.end(end.outcome.value, error_code=None if is_done else AnswerInterruptedError.code)
        titles = {use.id: use.title or use.name for use in self._plan.basis.record.elements}

        def hidden(words: str) -> str:
            for live in self._plan.basis.shown:
                words = words.replace(live.value, label_of(titles.get(live.element_id, "")))
            return words

        def kept(check: ReplyCheck) -> ReplyCheck:
            return check.model_copy(
                update={"values": tuple(map(hidden, check.values)), "line": None, "id": ""}
            )

        return EndedAnswer(
            finished_at=self._services.clock.now(),
            outcome=end.outcome,
            finish_reason=end.finish_reason,
            error_code=None if is_done else AnswerInterruptedError.code,
            text=hidden(self._written),
            sentences=(),
            mode=Mode.WRITTEN if is_done else None,
            checks=tuple(map(kept, checked.checks)),
            degraded=checked.degraded,
            usage=model.usage + checked.usage,
            timings_ms=dict(steps.timings_ms),
            inference_id=model.inference_id,
            quoted=self._plan.basis.units,
        )

    def last_event(self, ended: EndedAnswer, *, recorded: bool) -> Done | None:
        if ended.finish_reason is None:
            return None
        return Done(
            finish_reason=ended.finish_reason,
            citations=(),
            usage=ended.usage,
            timings_ms=ended.timings_ms,
            recorded=recorded,
            mode=ended.mode,
            checks=self._checked.checks,
            degraded=ended.degraded,
        )

    async def checked(self) -> None:
        """Return None: the check of a reply is part of its last event."""

    def leave(self) -> None:
        """Note nothing: until its check has ended a reply counts as disconnected."""

    async def close(self) -> None:
        await self._model.close()
