"""Writes a reply to one person from a finished answer: what the answer's lines say, in the tenant's tone.

The lines are the units of documents that the answer cites or quotes, read again from the store as the agent's
labels allow. A reply is kept as a record of its own: ``reply_to`` is the id of the answer, and so is its
``conversation_id``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Self

from opentelemetry.trace import SpanKind
from pydantic import model_validator

from assistant.answer.call import AnswerCall, InterruptedAnswerError
from assistant.answer.events import AnswerEvent, Checks, Done, Sources, Token
from assistant.answer.excerpts import fill_record, gone_from, read_excerpts
from assistant.answer.live_macs import LiveMacs
from assistant.answer.plan import send
from assistant.answer.prompt import Prompt, count_tokens, load_prompt, neutralise, quoted, rendered
from assistant.answer.question import AnswerIds, begin_call
from assistant.answer.record import RecordWriter
from assistant.answer.request import AnswerRequest
from assistant.answer.services import TenantServices
from assistant.answer.stored import own_answer
from assistant.answer.text_end import CANCELLED, DISCONNECTED, TextEnd
from assistant.answer.write import ModelText
from assistant.domain.answers import (
    MOST_SENT_CHARACTERS,
    AnswerRecord,
    BegunAnswer,
    EndedAnswer,
    FinishReason,
    Mode,
    Outcome,
    QuotedUnit,
    RedFlag,
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
from assistant.options.reply.check import check_reply
from assistant.options.reply.judge import CheckedReply, JudgeReply
from assistant.options.reply.prompt import PACKAGE, PROMPT, read_lines, reply_messages, shown_line
from assistant.text.language import language
from assistant.text.markup import label_of, without_marks

REPLY_CHECK = "reply_check"
"""The step in which a model reads a reply: its name in timings, and in ``degraded`` where it failed."""
_LONGEST_TOKENS = 256
"""Longest reply: three sentences have some 100."""


class ReplyRequest(AnswerRequest, ReplyBody):
    """A reply that an agent asks for."""

    question: str = ""
    """The answer's, which is not read yet."""
    reply_to: RecordId

    @model_validator(mode="after")
    def _asks(self) -> Self:
        return self


@dataclass(frozen=True, slots=True)
class AnswerLines:
    """What a reply may be written from, and what it is checked against."""

    record: AnswerRecord
    """The answer's."""
    lines: tuple[str, ...]
    """Of its documents, each as "title\\nheading\\ntext" (``read_lines``)."""
    live: tuple[str, ...]
    """Live values with their titles, "Order status: shipped", and the days counted from dates of the
    question."""
    before: str | None
    """The question before the answer's; None without one."""
    units: tuple[QuotedUnit, ...]
    """From where the lines are; a text that reviewers approved has none."""
    shown: tuple[LiveText, ...]
    """The live values among ``live``, which no record has: labels take their place."""


@dataclass(frozen=True, slots=True)
class ReplyPlan:
    """A reply that is not written yet: ``WriteReply.prepare`` makes it, ``stream`` sends it."""

    begun: BegunAnswer
    prompt: Prompt
    lines: AnswerLines
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


def _withdrawn() -> WithdrawnError:
    return WithdrawnError(
        "A document that the answer rests on was withdrawn, or you may no longer read it. Ask again."
    )


class WriteReply:
    """Writes replies of one tenant's agents, in the two halves of ``AnswerQuestion``.

    Example::

        request = ReplyRequest(reply_to="a1", conversation_id="a1", style="shorter")
        plan = await write.prepare(request, identity=ada, deadline=deadline)
        async for event in write.stream(plan): ...  # Started, Sources, Token…, Done(checks=…)
    """

    def __init__(self, services: TenantServices, records: RecordWriter) -> None:
        """``records``: the writer of the answers' records, so that one ``settle`` waits for both."""
        self._services, self._records, self._judge = services, records, JudgeReply(services)
        self._settings_hash = services.tenant.settings_hash()

    async def lines_of(self, answer_id: str, live: Sequence[LiveText], *, identity: Identity) -> AnswerLines:
        """Return the lines of the caller's own answer. ``live``: the live values of a request; those without
        a right MAC are left out.

        Raises NotFoundError, ConflictError (there is no line and no live value), WithdrawnError,
        RecordsUnavailableError, DependencyError.
        """
        services = self._services
        record = await own_answer(services, answer_id, identity=identity)
        texts, units = services.documents.texts, _cited(record)
        lines = await read_lines(record, units, texts=texts, labels=identity.labels)
        if lines is None:
            raise _withdrawn()
        if record.approved:  # reviewers wrote it, and it is shown whole
            shown = await read_excerpts(record.excerpts, texts, labels=identity.labels)
            if gone_from(record, shown):
                raise _withdrawn()
            lines.append(f"\n\n{fill_record(record, shown).text}")  # without title and heading
        days = services.counted_days(record.question, lines, at=record.written)
        names = {use.id: use.title or use.name for use in record.elements}
        live = LiveMacs(services, answer_id, identity.agent).genuine(live)
        values = tuple(f"{names[text.element_id]}: {text.value}" for text in live if text.element_id in names)
        if not (lines or values):  # counted days alone answer nothing
            raise ConflictError("The answer rests on no document and no live value. Ask anew.")
        earlier = None if record.follows is None else await services.records.get_answer(record.follows)
        before = None if earlier is None or earlier.agent != record.agent else earlier.question
        return AnswerLines(record, tuple(lines), (*values, *days), before, units, live)

    async def prepare(
        self,
        request: ReplyRequest,
        *,
        identity: Identity,
        deadline: Deadline,
        context: CareContext | None = None,
        ids: AnswerIds | None = None,
    ) -> ReplyPlan:
        """Return the plan of the reply. ``ids``: of a caller that needs them early. Raises as ``lines_of``,
        ConflictError (no model writes for this tenant), TooLargeError."""
        services = self._services
        if not services.writes_answers:
            raise ConflictError("No model writes for this tenant: write the reply yourself.")
        lines = await self.lines_of(request.reply_to, request.live, identity=identity)
        prompt, ids = self._prompt(request, lines), ids or AnswerIds.of(request, services)
        call = begin_call(services, ids, labels=identity.labels, deadline=deadline)
        record, model = lines.record, services.writer.model
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
        return ReplyPlan(begun, prompt, lines, call)

    def stream(self, plan: ReplyPlan, *, resumable: bool = False) -> AsyncGenerator[AnswerEvent, None]:
        """Return the events: started, sources (none), token*, checks (by code), then done with all checks.

        The tokens are not held back: the reply is checked once it is whole. Reading them raises
        GenerationUnavailableError where no reply was written. The reader must close the generator; the record
        is written however it ends.
        """
        return send(ReplyInProgress(self._services, plan, self), self._records, resumable=resumable)

    async def check(
        self, lines: AnswerLines, text: str, *, deadline: Deadline, by_model: bool = True
    ) -> CheckedReply:
        """Return what is wrong with a text, by code, and by the model where one writes for the tenant and
        ``by_model`` is true. Raises nothing."""
        by_code = self.found(lines, text)
        if not (by_model and self._services.writes_answers):
            return CheckedReply(by_code)
        return await self.read(by_code, lines, text, deadline=deadline)

    def found(self, lines: AnswerLines, text: str) -> tuple[ReplyCheck, ...]:
        """Return what the check by code finds."""
        given = (*lines.live, lines.before or "", lines.record.question)
        code = self._services.tenant.language
        return check_reply(text, lines=lines.lines, given=given, language=language(code))

    async def read(
        self, by_code: tuple[ReplyCheck, ...], lines: AnswerLines, text: str, *, deadline: Deadline
    ) -> CheckedReply:
        """Return the findings of code (``by_code``) and model together; those of code alone, with REPLY_CHECK
        in ``degraded``, where the model does not judge.

        The model adds findings and takes none away. A finding's start is that of its sentence: of a sentence
        in which both find something, the model's finding says more than "reckoned" by code, and takes its
        place.
        """
        judged = await self._judge.run(
            text,
            lines=[*map(shown_line, lines.lines), *map(quoted, lines.live)],
            question=lines.record.question,
            before=lines.before,
            of=(lines.record.answer_id, lines.record.agent),
            deadline=deadline,
        )
        if judged is None:
            return CheckedReply(by_code, (REPLY_CHECK,))

        def place(check: ReplyCheck) -> int:
            return -1 if check.kind == "missing" else check.start

        wrong = {place(check) for check in judged.checks}
        firm = [check for check in by_code if check.kind == "not_held" or place(check) not in wrong]
        named = {place(check) for check in firm}
        return replace(
            judged, checks=(*firm, *(check for check in judged.checks if place(check) not in named))
        )

    def _prompt(self, request: ReplyRequest, lines: AnswerLines) -> Prompt:
        """Return the prompt. Raises TooLargeError."""
        writer, generation = self._services.writer, self._services.tenant.generation
        template, draft = load_prompt(PROMPT, PACKAGE), request.draft
        live = "".join(f"- {quoted(value)}\n" for value in lines.live)
        system, user = reply_messages(
            lines.record.question,
            lines.lines,
            tone=self._services.tenant.answers.tone,
            style=request.style,
            before=f"The question before it: {quoted(lines.before)}\n\n" if lines.before else "",
            live=f"Live values of this person:\n{live}\n" if live else "",
            draft=f"The message so far:\n<draft>\n{neutralise(draft)}\n</draft>\n\n" if draft else "",
        )
        max_tokens, tokens = min(_LONGEST_TOKENS, generation.max_tokens), count_tokens((system, user), writer)
        if tokens > generation.context_tokens - max_tokens:
            raise TooLargeError(f"Lines and draft are {tokens} tokens, too many for a reply.")
        return Prompt(
            prompt_id=template.prompt_id,
            prompt_hash=template.sha256,
            messages=rendered((system, user), system_role=writer.model.system_role),
            prompt_tokens=tokens,
            max_tokens=max_tokens,
        )


class ReplyInProgress:
    """One reply while it is sent (``plan.InProgress``)."""

    def __init__(self, services: TenantServices, plan: ReplyPlan, replies: WriteReply) -> None:
        self._services, self._plan, self._replies = services, plan, replies
        self.call = plan.call
        self.red_flags: tuple[RedFlag, ...] = ()
        self.recorded_model = services.writer.model.recorded
        ids = AnswerIds(plan.begun.answer_id, plan.begun.conversation_id, plan.begun.asked_at)
        self._model = ModelText(services, plan.prompt, ids, plan.call)
        self._written, self._checked = "", CheckedReply(())
        self._ended_by: TextEnd | None = DISCONNECTED
        """What ended the events before their end; None at their end."""

    async def open(self) -> Sources:
        self._model.begin()
        return Sources(sources=())

    def begun(self) -> BegunAnswer:
        return self._plan.begun

    async def events(self) -> AsyncGenerator[AnswerEvent, None]:
        model, lines = self._model, self._plan.lines
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
        by_code = self._replies.found(lines, self._written)
        yield Checks(checks=by_code)
        reading = self._replies.read(by_code, lines, self._written, deadline=self.call.deadline)
        try:
            with self.call.steps.step(REPLY_CHECK, kind=SpanKind.CLIENT):
                self._checked = await self.call.interruption.wait(reading)
        except InterruptedAnswerError:
            self._checked = CheckedReply(by_code, (REPLY_CHECK,))
        self._ended_by = None

    def ended(self) -> EndedAnswer:
        """Return the second half of the record, and end the trace. It has labels in place of live values, and
        neither lines nor missing values, which are words of documents."""
        model, checked, steps = self._model, self._checked, self.call.steps
        end = self._ended_by or TextEnd(FinishReason.LENGTH if model.end.is_cut else FinishReason.STOP)
        is_done = end.outcome is Outcome.DONE
        steps.end(end.outcome.value, error_code=None if is_done else AnswerInterruptedError.code)
        titles = {use.id: use.title or use.name for use in self._plan.lines.record.elements}

        def hidden(words: str) -> str:
            for live in self._plan.lines.shown:
                words = words.replace(live.value, label_of(titles.get(live.element_id, "")))
            return words

        def kept(check: ReplyCheck) -> ReplyCheck:
            values = () if check.kind == "missing" else tuple(map(hidden, check.values))
            return check.model_copy(update={"values": values, "line": None, "id": ""})

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
            usage=Usage(
                prompt_tokens=model.usage.prompt_tokens + checked.usage.prompt_tokens,
                completion_tokens=model.usage.completion_tokens + checked.usage.completion_tokens,
            ),
            timings_ms=dict(steps.timings_ms),
            inference_id=model.inference_id,
            quoted=self._plan.lines.units,
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

    def leave(self) -> None:
        """Note nothing: until its check has ended a reply counts as disconnected."""

    async def close(self) -> None:
        await self._model.close()
