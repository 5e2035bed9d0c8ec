"""Ends an answer: what it is worth, what it lacks, and whom to ask."""

from __future__ import annotations

from dataclasses import dataclass, field

from assistant.answer.check import LEFT, NO_UNITS, Sentences, before_stop
from assistant.answer.elements import Hydration, what_is_missing, why_not_answered
from assistant.answer.events import Cause, Done, Problem
from assistant.answer.excerpts import shown_title
from assistant.answer.prepared import PreparedAnswer
from assistant.answer.quote import Quote
from assistant.answer.services import TenantServices
from assistant.domain.answers import AnswerEnding, AnswerRecord, Certainty, FinishReason, Mode, Outcome
from assistant.domain.errors import AssistantError

_NOT_ANSWERED = "The documents that were read do not answer this question."
CANCELLED_PROBLEM = Problem(
    title="Cancelled",
    status=409,
    detail="The answer was cancelled by the agent who asked.",
    code="cancelled",
    retryable=False,
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended."""

    outcome: Outcome
    error_code: str | None = None
    finish_reason: FinishReason | None = None
    """None where nobody reads the end."""
    reason: str | None = None
    """For ``done``: what was missing or what failed."""
    told: AnswerEnding = field(default_factory=AnswerEnding)
    """What the record and the last event say."""

    def last_event(self, record: AnswerRecord, said: Sentences, *, recorded: bool) -> Done | Problem | None:
        """Return the event that ends the stream; None when nobody reads it."""
        if self.finish_reason is None:
            return CANCELLED_PROBLEM if self.outcome is Outcome.CANCELLED else None
        return Done(
            finish_reason=self.finish_reason,
            citations=said.citations,
            usage=record.usage,
            timings_ms=dict(record.timings_ms),
            reason=self.reason,
            recorded=recorded,
            **dict(self.told),
        )


class EndAnswer:
    """Ends the answers of one tenant.

    Example: of a question that no document answers, and a system that was late::

        ending = end.run(said, record, prepared)
        ending.finish_reason  # FinishReason.NO_EVIDENCE
        ending.reason  # "Orders did not answer. Not in the knowledge base. The nearest document is …"
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    def run(self, said: Sentences, begun: AnswerRecord, prepared: PreparedAnswer) -> Ending:
        """Return the ending, and end all reads. ``begun``: the record when the answer began."""
        outcome = _outcome_of(said, prepared)
        prepared.run.hydration.cancel()
        told = self._told(outcome, said, begun, prepared)
        reason = outcome.reason
        if outcome.finish_reason is FinishReason.NO_EVIDENCE and told.loading:
            missing = "; ".join(map(str, told.loading))
            reason = f"The knowledge base is not complete ({missing}): ask again later. {reason}"
        return Ending(outcome.outcome, outcome.error_code, outcome.finish_reason, reason, told)

    def _told(
        self, outcome: _TextOutcome, said: Sentences, begun: AnswerRecord, prepared: PreparedAnswer
    ) -> AnswerEnding:
        """Return what the record and the last event say beside the text."""
        quote, hydration, mode = prepared.quote, prepared.run.hydration, outcome.mode
        is_done, is_whole = outcome.outcome is Outcome.DONE, self._is_of_whole_sources(said, mode, prepared)
        certainty = outcome.certainty
        if certainty is not None and not is_whole:
            certainty = Certainty.POSSIBLY
        needs_nobody = is_whole and _is_settled(outcome, quote, hydration)
        offers_draft = mode is not None and is_whole and certainty is not Certainty.POSSIBLY
        asked_parts = {element.part for element in hydration.answering}
        return AnswerEnding(
            mode=mode,
            certainty=certainty,
            fallback=said.fallback if mode is not None else None,
            also=quote.also if mode else (),
            clarify=what_is_missing(hydration.answering) if is_done else None,
            unanswered=tuple(
                evidence.query.question
                for part, evidence in enumerate(quote.evidence)
                if mode is Mode.QUOTED and not evidence.is_found and part not in asked_parts
            ),
            reply_draft=quote.reply_draft if offers_draft else None,
            escalation=None if needs_nobody or outcome.finish_reason is None else begun.escalation,
            degraded=tuple(dict.fromkeys(prepared.run.scope.degraded)),
            asked=hydration.asked(begun.asked),
            loading=prepared.index.loading if is_done else (),
            reply_of=prepared.answer_id if mode and prepared.question.asks_reply else None,
        )

    def _is_of_whole_sources(self, said: Sentences, mode: Mode | None, prepared: PreparedAnswer) -> bool:
        """Return whether the index has all documents of the sources that the text is from. An approved answer
        and live values are from none."""
        shown = [unit.document_id for unit in said.quoted]
        if mode is Mode.WRITTEN and prepared.prompt is not None:
            read = {document.n: document.document.card.document_id for document in prepared.prompt.documents}
            shown += [read[n] for n in said.citations or read if n in read]
        sources = self._services.sources_of(shown)
        return not sources or prepared.index.is_whole(sources)


@dataclass(frozen=True, slots=True)
class _TextOutcome:
    """What came of the text of an answer."""

    outcome: Outcome
    error_code: str | None = None
    finish_reason: FinishReason | None = None
    """None where nobody reads the end."""
    reason: str | None = None
    mode: Mode | None = None
    """Whose text it is; None where the agent has none."""
    certainty: Certainty | None = None
    """Of a written answer, as far as its text says."""


def _outcome_of(said: Sentences, prepared: PreparedAnswer) -> _TextOutcome:
    if not said.is_over:  # an unexpected error, which the caller's caller handles
        return _TextOutcome(Outcome.FAILED, AssistantError.code)
    if said.how in LEFT:
        outcome = Outcome.CANCELLED if said.how is Cause.CANCELLED else Outcome.DISCONNECTED
        return _TextOutcome(outcome, str(said.how))
    if said.mode is Mode.WRITTEN:
        return _of_written(said, prepared.run.hydration)
    quote = prepared.quote
    if said.mode is Mode.QUOTED:
        is_cut = len(said.quoted) < len(before_stop(quote.blocks, prepared.question.request.stops))
        finish_reason = FinishReason.LENGTH if is_cut else FinishReason.STOP
        return _TextOutcome(Outcome.DONE, said.fallback, finish_reason, mode=Mode.QUOTED)
    if said.fallback or (said.how is None and quote.answered):  # the agent still has the ranked sources
        code = said.fallback or NO_UNITS
        return _TextOutcome(Outcome.DONE, code, FinishReason.SOURCES_ONLY, code)
    return _of_systems(_NOT_ANSWERED if said.is_refused else _why_not_found(quote), prepared)


def _of_written(said: Sentences, hydration: Hydration) -> _TextOutcome:
    """Return the outcome of a model's text, of which at least one sentence was shown."""
    finish_reason = FinishReason.STOP
    if said.how is FinishReason.CONTENT_FILTER:
        finish_reason = FinishReason.CONTENT_FILTER
    elif said.fallback is not None or said.how is FinishReason.LENGTH:
        finish_reason = FinishReason.LENGTH
    is_filtered = finish_reason is FinishReason.CONTENT_FILTER
    is_sure = said.is_sure and not (said.fallback or is_filtered or hydration.reads_another)
    certainty = Certainty.ANSWERED if is_sure else Certainty.POSSIBLY
    return _TextOutcome(Outcome.DONE, said.fallback, finish_reason, mode=Mode.WRITTEN, certainty=certainty)


def _of_systems(reason: str, prepared: PreparedAnswer) -> _TextOutcome:
    """Return the outcome where documents answer nothing. ``reason``: why they do not."""
    answering = prepared.run.hydration.answering
    if any(element.slot.is_ready for element in answering):
        return _TextOutcome(Outcome.DONE, None, FinishReason.STOP, mode=Mode.QUOTED)
    if of_systems := why_not_answered(answering):
        # Where a system is all that was asked, it says nothing that the documents are silent.
        parts, asked_parts = len(prepared.quote.evidence), len({element.part for element in answering})
        by_system = asked_parts == parts >= prepared.question.request.question.count("?")
        reason = of_systems if by_system else f"{of_systems} {reason}"
    return _TextOutcome(Outcome.DONE, None, FinishReason.NO_EVIDENCE, reason)


def _why_not_found(quote: Quote) -> str:
    """Return why there is no answer, for the agent."""
    if refusal := next((evidence.refusal for evidence in quote.evidence if evidence.refusal), ""):
        return refusal
    best = quote.evidence[0].ranked.best
    if best is None:
        return "The knowledge base holds nothing that these filters and your access rights let through."
    return f"Not in the knowledge base. The nearest document is “{shown_title(best.card.title)}”."


def _is_settled(outcome: _TextOutcome, quote: Quote, hydration: Hydration) -> bool:
    """Return whether the agent needs to ask nobody: a written answer is certain, or an approved answer, a
    table or a live system answers each question. A quoted section is only near."""
    if outcome.mode is not Mode.QUOTED:
        return outcome.certainty is Certainty.ANSWERED
    ready_parts = {element.part for element in hydration.answering if element.slot.is_ready}
    return all(
        evidence.answer is not None or part in ready_parts for part, evidence in enumerate(quote.evidence)
    )
