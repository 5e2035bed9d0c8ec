"""Ends an answer: says how it ended, how certain it is, what it lacks, and whom to ask."""

from __future__ import annotations

import re
from collections.abc import Sequence

from assistant.answer.check import AnswerText
from assistant.answer.elements import what_is_missing, why_not_answered
from assistant.answer.events import Problem
from assistant.answer.plan import Basis, Nothing, Plan, Quoted, Written
from assistant.answer.section import Quote
from assistant.answer.services import TenantServices
from assistant.answer.text_end import TextEnd
from assistant.domain.answers import AnswerEnding, Certainty, FinishReason, Mode, Outcome, SourceAsked
from assistant.text.language import fold

_DEFAULT_CONTACT = "default"
"""Key of ``[answers.escalation]`` for all sections that name no contact."""
EMPTY, WITHHELD, NO_UNITS = "empty_answer", "withheld", "nothing_to_quote"
"""The model wrote nothing; all of its sentences were withheld; the section has no unit that may be shown."""
FAILED_CHECKS = frozenset(
    {"repetition", "debris", "too_long", EMPTY, WITHHELD, NO_UNITS}
    | {FinishReason.LENGTH, FinishReason.CONTENT_FILTER}
)
"""Codes of ``done.fallback`` for text that failed its checks. Every other code is a failure of the model."""
CANCELLED_PROBLEM = Problem(
    title="Cancelled",
    status=409,
    detail="The answer was cancelled by the agent who asked.",
    code="cancelled",
    retryable=False,
)


def end_of_plan(plan: Plan, text: AnswerText, model_end: TextEnd | None) -> TextEnd:
    """Return how the text of a plan ended that somebody read to its end; ``text_end`` has all cases.

    ``text``: what was shown. ``model_end``: of the model's text; None where none was asked.
    """
    match plan:
        case Written():
            return _end_of_written(text, model_end or TextEnd(FinishReason.STOP))
        case Quoted() if text.quoted:
            return TextEnd(FinishReason.STOP, plan.instead_of)
        case Quoted():  # the agent still has the ranked sources
            code = plan.instead_of or NO_UNITS
            return TextEnd(FinishReason.SOURCES_ONLY, code, reason=code)
        case Nothing():
            return _end_of_nothing(plan)


def why_early(text: AnswerText, model_end: TextEnd) -> str | None:
    """Return the code of what ended a model's text before the model did: a check of it, or a failure."""
    return text.failure if model_end.finish_reason is not None or text.is_over else model_end.code


def _end_of_written(text: AnswerText, model_end: TextEnd) -> TextEnd:
    """Return how a model's text ended, of which at least one sentence was shown."""
    code = why_early(text, model_end)
    if model_end.finish_reason is FinishReason.CONTENT_FILTER:
        return TextEnd(FinishReason.CONTENT_FILTER, code)
    is_cut = code is not None or model_end.finish_reason is FinishReason.LENGTH
    return TextEnd(FinishReason.LENGTH if is_cut else FinishReason.STOP, code)


def _end_of_nothing(plan: Nothing) -> TextEnd:
    """Return how an answer ended that has no text: by a live value, or with the reason why nothing
    answers."""
    answering = plan.basis.live.answering
    if any(element.slot.is_ready for element in answering):
        return TextEnd(FinishReason.STOP)
    reason = plan.why
    if why_no_value := why_not_answered(answering):
        # Why no document answers is left out where every part of the message asks a system. A part may hold
        # two questions, of which documents should answer one: then there are more question marks than parts.
        parts, live_parts = len(plan.quote.parts), len({element.part for element in answering})
        is_only_live = live_parts == parts and plan.basis.question.text.count("?") <= parts
        reason = why_no_value if is_only_live else f"{why_no_value} {reason}"
    if plan.basis.index.loading:
        missing = "; ".join(map(str, plan.basis.index.loading))
        reason = f"The knowledge base is not complete ({missing}): ask again later. {reason}"
    return TextEnd(FinishReason.NO_EVIDENCE, reason=reason)


class DescribeEnd:
    """Says how the answers of one tenant ended, beside their text.

    Example: of a question that no document answers, and a system that was late::

        end = TextEnd(FinishReason.NO_EVIDENCE, reason="Orders did not answer. …")
        details = describe.run(plan, text, end, quote, asked)
        details.escalation  # "Care Team Lead, ext. 4000"
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    def run(
        self, plan: Plan, text: AnswerText, end: TextEnd, quote: Quote, asked: Sequence[SourceAsked]
    ) -> AnswerEnding:
        """Return what record and last event say beside the text. ``text``: what was shown; ``end``: how it
        ended; ``quote``: what the documents have; ``asked``: the tenant's sources."""
        basis, is_done = plan.basis, end.outcome is Outcome.DONE
        mode = _mode_of(plan, text) if is_done else None
        is_whole = self._is_of_whole_sources(plan, text, mode)
        is_near = mode is Mode.QUOTED and quote.is_near
        certainty = _certainty_of(text, end, basis) if mode is Mode.WRITTEN else None
        if is_near or (certainty is not None and not is_whole):
            certainty = Certainty.POSSIBLY
        ready_parts = {element.part for element in basis.live.answering if element.slot.is_ready}
        live_parts = {element.part for element in basis.live.answering}
        # the agent needs to ask nobody where a written answer is certain, or every question of the message
        # has an approved answer, a row of a table or a live value; a quoted section need not answer. Of
        # one that is only the nearest nobody is named: a wrong desk is worse than none
        is_settled = certainty is Certainty.ANSWERED
        if mode is Mode.QUOTED:
            is_settled = all(
                part.answer is not None or at in ready_parts for at, part in enumerate(quote.parts)
            )
        return AnswerEnding(
            mode=mode,
            certainty=certainty,
            fallback=end.code if mode is not None else None,
            also=quote.also if mode else (),
            clarify=what_is_missing(basis.live.answering) if is_done else None,
            unanswered=tuple(
                part.query.question
                for at, part in enumerate(quote.parts)
                if mode is Mode.QUOTED and at not in live_parts
                if not part.is_found or (part.is_near and not is_near)
            ),
            escalation=None
            if is_near or (is_whole and is_settled)
            else self._whom_to_ask(plan, text, end, mode=mode, quote=quote),
            degraded=tuple(dict.fromkeys((*basis.degraded, *quote.degraded))),
            asked=tuple(asked),
            loading=basis.index.loading if is_done else (),
        )

    def _whom_to_ask(
        self, plan: Plan, text: AnswerText, end: TextEnd, *, mode: Mode | None, quote: Quote
    ) -> str | None:
        """Return the first contact whose name stands in the section, in its marked lines before the others;
        else, and where a written text cites other documents, the default. None beside an emergency, for a
        greeting or thanks, and where no document answers: a wrong desk is worse than none."""
        basis = plan.basis
        if end.finish_reason is None or basis.red_flags.flags or not basis.reading.kept.asks:
            return None
        if isinstance(plan, Written) and text.desk is not None:
            return plan.prompt.desks[text.desk - 1] if 0 < text.desk <= len(plan.prompt.desks) else None
        contacts = self._services.tenant.answers.escalation
        default = contacts.get(_DEFAULT_CONTACT)
        if end.finish_reason is FinishReason.NO_EVIDENCE:
            return default if basis.live.answering else None  # a system that did not answer
        sections = {part.section.document.card.document_id for part in quote.parts if part.section}
        if mode is Mode.WRITTEN and sections.isdisjoint(_cited(plan, text)):
            return default
        lines = sorted(quote.blocks, key=lambda block: not block.is_key)
        folded = fold("\n".join(line.text for line in lines))
        places = {
            contact: match.start() for contact in contacts.values() if (match := _name_in(contact, folded))
        }
        return min(places, key=places.__getitem__, default=default)

    def _is_of_whole_sources(self, plan: Plan, text: AnswerText, mode: Mode | None) -> bool:
        """Return whether the index has all documents of the sources that the text is from. A text from no
        source, such as an approved answer or live values, is too.

        A written text is from the documents that it cites; without citations, from all that the model read.
        """
        document_ids = [unit.document_id for unit in text.quoted]
        if mode is Mode.WRITTEN:
            document_ids += _cited(plan, text)
        sources = self._services.sources_of(document_ids)
        return not sources or plan.basis.index.is_whole(sources)


def _mode_of(plan: Plan, text: AnswerText) -> Mode | None:
    """Return whose text an answer has that came to its end; None for one without a text."""
    match plan:
        case Written():
            return Mode.WRITTEN
        case Quoted():
            return Mode.QUOTED if text.quoted else None
        case Nothing():
            has_value = any(element.slot.is_ready for element in plan.basis.live.answering)
            return Mode.QUOTED if has_value else None


def _certainty_of(text: AnswerText, end: TextEnd, basis: Basis) -> Certainty:
    """Return how certain a written text is, by its sentences alone."""
    is_filtered = end.finish_reason is FinishReason.CONTENT_FILTER
    is_sure = text.is_sure and not (end.code or is_filtered or basis.hydration.reads_another)
    return Certainty.ANSWERED if is_sure else Certainty.POSSIBLY


def _cited(plan: Plan, text: AnswerText) -> list[str]:
    """Return the ids of the documents that a written text cites; without citations, of all that the model
    read."""
    documents = plan.prompt.documents if isinstance(plan, Written) else ()
    read = {document.n: document.document.card.document_id for document in documents}
    return [read[n] for n in text.citations or read if n in read]


def _name_in(contact: str, folded: str) -> re.Match[str] | None:
    """Return where a folded text has the name of a contact: "Claims Desk" of "the Claims Desk, ext. 4100"."""
    name = fold(contact.partition(",")[0]).removeprefix("the ").strip()
    return re.search(rf"\b{re.escape(name)}\b", folded)
