"""Ends an answer: says how it ended, how certain it is, what it lacks, and whom to ask.

``AnswerQuestion.stream`` calls ``EndAnswer.run`` once an answer, after its last text: its result goes into
the record, and with the record into the last event.
"""

from __future__ import annotations

import re
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
from assistant.text.language import fold

_DEFAULT_CONTACT = "default"
"""Key of ``[answers.escalation]`` for all sections that name no contact."""
_NOTHING_ASKED = "The message thanks or greets: there is nothing to answer."
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
    """How an answer ended, for its record and its last event."""

    outcome: Outcome
    error_code: str | None = None
    """Code of what failed, also where the agent has a text in spite of it: then that of ``fallback``."""
    finish_reason: FinishReason | None = None
    """None where nobody reads the end: the agent left or cancelled, or an error ended the answer."""
    reason: str | None = None
    """For ``done``: what was missing or what failed."""
    details: AnswerEnding = field(default_factory=AnswerEnding)
    """What record and last event both have."""

    def last_event(self, record: AnswerRecord, shown: Sentences, *, recorded: bool) -> Done | Problem | None:
        """Return the event that ends the stream; None when nobody reads it."""
        if self.finish_reason is None:
            return CANCELLED_PROBLEM if self.outcome is Outcome.CANCELLED else None
        return Done(
            finish_reason=self.finish_reason,
            citations=shown.citations,
            usage=record.usage,
            timings_ms=dict(record.timings_ms),
            reason=self.reason,
            recorded=recorded,
            asks=record.reading is None or record.reading.asks,
            **dict(self.details),
        )


class EndAnswer:
    """Ends the answers of one tenant.

    Example: of a question that no document answers, and a system that was late::

        ending = end.run(shown, record, prepared)
        ending.finish_reason  # FinishReason.NO_EVIDENCE
        ending.reason  # "Orders did not answer. Not in the knowledge base. The nearest document is …"
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    def run(self, shown: Sentences, begun: AnswerRecord, prepared: PreparedAnswer) -> Ending:
        """Return the ending, and end all reads of live systems.

        ``shown``: what the agent saw. ``begun``: the record when the answer began.
        """
        text_end = _text_end_of(shown, prepared)
        prepared.run.hydration.cancel()  # after text_end, whose reason names only errors of the systems
        details = self._details(text_end, shown, begun, prepared)
        reason = text_end.reason
        if text_end.finish_reason is FinishReason.NO_EVIDENCE and details.loading:
            missing = "; ".join(map(str, details.loading))
            reason = f"The knowledge base is not complete ({missing}): ask again later. {reason}"
        return Ending(text_end.outcome, text_end.error_code, text_end.finish_reason, reason, details)

    def _details(
        self, text_end: _TextEnd, shown: Sentences, begun: AnswerRecord, prepared: PreparedAnswer
    ) -> AnswerEnding:
        """Return what record and last event say beside the text."""
        quote, mode = prepared.quote, text_end.mode
        is_done = text_end.outcome is Outcome.DONE
        is_whole = self._is_of_whole_sources(shown, mode, prepared)
        certainty = text_end.certainty
        if certainty is not None and not is_whole:
            certainty = Certainty.POSSIBLY
        needs_nobody = is_whole and _is_settled(text_end, prepared)
        live_parts = {element.part for element in prepared.live.answering}
        return AnswerEnding(
            mode=mode,
            certainty=certainty,
            fallback=shown.fallback if mode is not None else None,
            also=quote.also if mode else (),
            clarify=what_is_missing(prepared.live.answering) if is_done else None,
            unanswered=tuple(
                evidence.query.question
                for part, evidence in enumerate(quote.evidence)
                if mode is Mode.QUOTED and not evidence.is_found and part not in live_parts
            ),
            escalation=None if needs_nobody else self._whom_to_ask(text_end, shown, prepared),
            degraded=tuple(dict.fromkeys(prepared.run.scope.degraded)),
            asked=prepared.run.hydration.with_live_states(begun.asked),
            loading=prepared.index.loading if is_done else (),
            reply_of=prepared.answer_id if mode and prepared.question.asks_reply else None,
        )

    def _whom_to_ask(self, text_end: _TextEnd, shown: Sentences, prepared: PreparedAnswer) -> str | None:
        """Return the first contact whose name stands in the section, in its marked lines before the others;
        else, and where a written text cites other documents, the default. None beside an emergency, for a
        greeting or thanks, and where no document answers: a wrong desk is worse than none."""
        if text_end.finish_reason is None or prepared.red_flags or not prepared.queries.reading.asks:
            return None
        contacts = self._services.tenant.answers.escalation
        default = contacts.get(_DEFAULT_CONTACT)
        if text_end.finish_reason is FinishReason.NO_EVIDENCE:
            return default if prepared.live.answering else None  # a system that did not answer
        sections = {
            part.section.document.card.document_id for part in prepared.quote.evidence if part.section
        }
        if text_end.mode is Mode.WRITTEN and sections.isdisjoint(self._cited(shown, prepared)):
            return default
        lines = sorted(prepared.quote.blocks, key=lambda block: not block.is_key)
        text = fold("\n".join(line.text for line in lines))
        places = {
            contact: match.start() for contact in contacts.values() if (match := _name_in(contact, text))
        }
        return min(places, key=places.__getitem__, default=default)

    def _is_of_whole_sources(self, shown: Sentences, mode: Mode | None, prepared: PreparedAnswer) -> bool:
        """Return whether the index has all documents of the sources that the text is from. A text from no
        source, such as an approved answer or live values, is too.

        A written text is from the documents that it cites; without citations, from all that the model read.
        """
        document_ids = [unit.document_id for unit in shown.quoted]
        if mode is Mode.WRITTEN:
            document_ids += self._cited(shown, prepared)
        sources = self._services.sources_of(document_ids)
        return not sources or prepared.index.is_whole(sources)

    @staticmethod
    def _cited(shown: Sentences, prepared: PreparedAnswer) -> list[str]:
        """Return the ids of the documents that a written text cites; without citations, of all that the model
        read."""
        documents = prepared.prompt.documents if prepared.prompt else ()
        read = {document.n: document.document.card.document_id for document in documents}
        return [read[n] for n in shown.citations or read if n in read]


@dataclass(frozen=True, slots=True)
class _TextEnd:
    """How the text of an answer ended, before its sources are looked at."""

    outcome: Outcome
    error_code: str | None = None
    finish_reason: FinishReason | None = None
    """None where nobody reads the end."""
    reason: str | None = None
    mode: Mode | None = None
    """Whose text it is; None where the agent has none."""
    certainty: Certainty | None = None
    """Of a written text, by its sentences alone."""


def _text_end_of(shown: Sentences, prepared: PreparedAnswer) -> _TextEnd:
    """Return how the text ended:

    | what happened | outcome | finish reason | mode |
    | --- | --- | --- | --- |
    | an unexpected error | FAILED | none | none |
    | the agent left or cancelled | DISCONNECTED, CANCELLED | none | none |
    | a model wrote a sentence or more | DONE | STOP, LENGTH, CONTENT_FILTER | WRITTEN |
    | a section was quoted | DONE | STOP, LENGTH | QUOTED |
    | a text was due and none could be shown | DONE | SOURCES_ONLY | none |
    | a live system has the value | DONE | STOP | QUOTED |
    | nothing answers, or nothing is asked | DONE | NO_EVIDENCE | none |
    """
    if not shown.has_ended:  # who reads the stream handles the error
        return _TextEnd(Outcome.FAILED, AssistantError.code)
    if shown.how in LEFT:
        outcome = Outcome.CANCELLED if shown.how is Cause.CANCELLED else Outcome.DISCONNECTED
        return _TextEnd(outcome, str(shown.how))
    if shown.mode is Mode.WRITTEN:
        return _written_end(shown, prepared.run.hydration)
    quote = prepared.quote
    if shown.mode is Mode.QUOTED:
        is_cut = len(shown.quoted) < len(before_stop(quote.blocks, prepared.question.request.stops))
        finish_reason = FinishReason.LENGTH if is_cut else FinishReason.STOP
        return _TextEnd(Outcome.DONE, shown.fallback, finish_reason, mode=Mode.QUOTED)
    if shown.fallback or (shown.how is None and quote.answered):  # the agent still has the ranked sources
        code = shown.fallback or NO_UNITS
        return _TextEnd(Outcome.DONE, code, FinishReason.SOURCES_ONLY, reason=code)
    why_no_document = _NOT_ANSWERED if shown.is_refused else _why_not_found(quote)
    if not prepared.queries.reading.asks:
        why_no_document = _NOTHING_ASKED
    return _end_without_documents(why_no_document, prepared)


def _written_end(shown: Sentences, hydration: Hydration) -> _TextEnd:
    """Return how a model's text ended, of which at least one sentence was shown."""
    finish_reason = FinishReason.STOP
    if shown.how is FinishReason.CONTENT_FILTER:
        finish_reason = FinishReason.CONTENT_FILTER
    elif shown.fallback is not None or shown.how is FinishReason.LENGTH:
        finish_reason = FinishReason.LENGTH
    is_filtered = finish_reason is FinishReason.CONTENT_FILTER
    is_sure = shown.is_sure and not (shown.fallback or is_filtered or hydration.reads_another)
    certainty = Certainty.ANSWERED if is_sure else Certainty.POSSIBLY
    return _TextEnd(Outcome.DONE, shown.fallback, finish_reason, mode=Mode.WRITTEN, certainty=certainty)


def _end_without_documents(why_no_document: str, prepared: PreparedAnswer) -> _TextEnd:
    """Return how an answer ended that has no text: by a live value, or with the reason why nothing
    answers."""
    answering = prepared.live.answering
    if any(element.slot.is_ready for element in answering):
        return _TextEnd(Outcome.DONE, None, FinishReason.STOP, mode=Mode.QUOTED)
    reason = why_no_document
    if why_no_value := why_not_answered(answering):
        # Why no document answers is left out where every part of the message asks a system. A part may hold
        # two questions, of which documents should answer one: then there are more question marks than parts.
        parts, live_parts = len(prepared.quote.evidence), len({element.part for element in answering})
        is_only_live = live_parts == parts and prepared.question.request.question.count("?") <= parts
        reason = why_no_value if is_only_live else f"{why_no_value} {why_no_document}"
    return _TextEnd(Outcome.DONE, None, FinishReason.NO_EVIDENCE, reason)


def _why_not_found(quote: Quote) -> str:
    """Return for the agent why no document answers."""
    if refusal := next((evidence.refusal for evidence in quote.evidence if evidence.refusal), ""):
        return refusal
    best = quote.evidence[0].ranked.best
    if best is None:
        return "The knowledge base holds nothing that these filters and your access rights let through."
    return f"Not in the knowledge base. The nearest document is “{shown_title(best.card.title)}”."


def _name_in(contact: str, folded: str) -> re.Match[str] | None:
    """Return where a folded text has the name of a contact: "Claims Desk" of "the Claims Desk, ext. 4100"."""
    name = fold(contact.partition(",")[0]).removeprefix("the ").strip()
    return re.search(rf"\b{re.escape(name)}\b", folded)


def _is_settled(text_end: _TextEnd, prepared: PreparedAnswer) -> bool:
    """Return whether the agent needs to ask nobody: a written answer is certain, or every question of the
    message has an approved answer, a row of a table or a live value. A quoted section is only near."""
    if text_end.mode is not Mode.QUOTED:
        return text_end.certainty is Certainty.ANSWERED
    ready_parts = {element.part for element in prepared.live.answering if element.slot.is_ready}
    return all(
        evidence.answer is not None or part in ready_parts
        for part, evidence in enumerate(prepared.quote.evidence)
    )
