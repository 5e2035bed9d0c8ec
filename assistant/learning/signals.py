"""Makes feedback events of an outbox row, its answer's record, and the answer before it.

An event's id is the hash of tenant, kind and the id of the act: a row that is read twice makes the same
events. Agents, conversations and patients stand in them by keyed hashes, whose key stays in the tenant's
account.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from assistant.domain.answers import (
    AnswerRecord,
    Certainty,
    FinishReason,
    Sent,
    StoredSent,
    StoredVerdict,
    Support,
    Verdict,
    VerdictLabel,
)
from assistant.domain.feedback import (
    Act,
    AgentAct,
    FeedbackEvent,
    FeedbackKind,
    FeedbackText,
    ShownDocument,
    StoredAct,
)
from assistant.learning.comparisons import WITHIN_S, Asked, compare, is_reformulation, keeps_any
from assistant.learning.ports import OutboxRow
from assistant.settings.tenant import TenantConfig
from assistant.text.language import language

REASONS = frozenset(
    {
        *("correct", "complete", "clear"),
        *("wrong", "outdated", "incomplete", "not_asked", "wrong_source", "unclear", "unsafe"),
    }
)
"""Codes that the console offers as reasons of a verdict. Any other reason is free text, and left out."""
_PSEUDONYM_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Signal:
    """An event with the words that belong to it."""

    event: FeedbackEvent
    """Without ``text_id``, which sealing gives."""
    words: FeedbackText
    """Patients' data is not replaced yet."""
    documents: tuple[str, ...]
    """Documents whose text may be in the words."""


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer's record, and its record as the agent saw it."""

    record: AnswerRecord
    filled: AnswerRecord
    """With the documents' texts."""
    is_whole: bool
    """Whether every text was still there to be filled in."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The answer before another one in its conversation."""

    record: AnswerRecord
    is_used: bool
    """Whether the agent sent something for it or marked it good."""


class Signals:
    """Makes the events of one tenant. ``secret`` is the key of pseudonyms."""

    def __init__(self, tenant: TenantConfig, *, secret: bytes) -> None:
        self._tenant = tenant.name
        self._switches = tenant.feedback
        self._language = language(tenant.language)
        self._secret = secret

    @property
    def keeps_texts(self) -> bool:
        return self._switches.texts

    def patient(self, member_number: str) -> str:
        """Return the subject of a patient's texts, however the member number is written."""
        plain = "".join(character for character in member_number.upper() if character.isalnum())
        return f"patient:{self._pseudonym('patient', plain)}"

    def of(self, row: OutboxRow, answer: ShownAnswer, *, earlier: Earlier | None = None) -> list[Signal]:
        """Return the signals of a row; none where the tenant switched their kind off.

        ``earlier`` is the answer before, for a row of an answer that follows another one.
        """
        match row.stored:
            case StoredVerdict(verdict=verdict, at=at):
                return list(self._of_verdict(verdict, at, answer))
            case StoredSent(sent=sent, at=at):
                return list(self._of_sent(sent, at, answer))
            case StoredAct(act=act, at=at):
                return list(self._of_act(act, at, answer))
            case None:
                return list(self._of_answer(answer, earlier))

    def _of_verdict(self, verdict: Verdict, at: datetime, answer: ShownAnswer) -> Iterator[Signal]:
        record = answer.record
        document_of = {use.n: use.document_id for use in record.passages}
        wrong = dict.fromkeys(document_of[n] for n in verdict.wrong_citations if n in document_of)
        event = self._event(FeedbackKind.VERDICT, verdict.verdict_id, at, record).model_copy(
            update={
                "label": verdict.label,
                "reasons": tuple(reason for reason in verdict.reasons if reason in REASONS),
                "wrong_documents": tuple(wrong),
                "has_better_text": bool(verdict.better_text),
            }
        )
        yield self._signal(event, answer, better_text=verdict.better_text)
        if verdict.label is VerdictLabel.GOOD:
            yield from self._taken(at, answer)

    def _of_sent(self, sent: Sent, at: datetime, answer: ShownAnswer) -> Iterator[Signal]:
        event = self._event(FeedbackKind.SENT, sent.send_id, at, answer.record)
        if self._switches.edits:
            filled, may_compare = answer.filled, answer.is_whole and answer.record.mode is not None
            texts = [filled.text[one.start : one.end] for one in filled.sentences]
            supports = [one.support for one in filled.sentences]
            unsupported = [
                text
                for text, support in zip(texts, supports, strict=True)
                if support is Support.UNSUPPORTED and text
            ]
            edit = compare(_drafts(filled), sent.text, language=self._language) if may_compare else None
            kept = keeps_any(unsupported, sent.text)
            event = event.model_copy(update={"edit": edit, "unsupported_sent": kept})
        yield self._signal(event, answer, sent=sent.text if self._switches.edits else None)
        yield from self._taken(at, answer)

    def _of_act(self, act: Act, at: datetime, answer: ShownAnswer) -> Iterator[Signal]:
        match act.kind:
            case AgentAct.OPENED_SOURCE:
                opened = next((use.document_id for use in answer.record.passages if use.n == act.n), None)
                if self._switches.opened_sources and opened is not None:
                    event = self._event(FeedbackKind.OPENED_SOURCE, act.act_id, at, answer.record)
                    yield self._question_only(event.model_copy(update={"opened": opened}), answer.record)
            case AgentAct.POSSIBLY_TAKEN:
                yield from self._taken(at, answer)
            case AgentAct.POSSIBLY_PASSED_OVER:
                yield from self._passed_over(at, answer.record)
            case AgentAct.OFFERED_USED:
                offered = answer.record.offered
                if offered is not None:
                    event = self._event(FeedbackKind.OFFERED_USED, act.act_id, at, answer.record)
                    event = event.model_copy(update={"offered": offered.item_id})
                    yield self._question_only(event, answer.record)

    def _of_answer(self, answer: ShownAnswer, earlier: Earlier | None) -> Iterator[Signal]:
        record = answer.record
        if record.finish_reason is FinishReason.NO_EVIDENCE:
            event = self._event(FeedbackKind.UNANSWERED, record.answer_id, record.finished_at, record)
            yield self._question_only(event, record)
        if earlier is None:
            return
        before, waited = earlier.record, record.asked_at - earlier.record.asked_at
        if waited.total_seconds() <= WITHIN_S and is_reformulation(
            _asked(before), _asked(record), language=self._language
        ):
            event = self._event(FeedbackKind.REFORMULATED, record.answer_id, record.asked_at, before)
            event = event.model_copy(update={"next_answer_id": record.answer_id})
            words = FeedbackText(question=before.question, next_question=record.question)
            yield Signal(event, words, ())
        if not earlier.is_used:
            yield from self._passed_over(record.asked_at, before)

    def _taken(self, at: datetime, answer: ShownAnswer) -> Iterator[Signal]:
        yield from self._possibly(FeedbackKind.POSSIBLY_TAKEN, at, answer.record)

    def _passed_over(self, at: datetime, record: AnswerRecord) -> Iterator[Signal]:
        yield from self._possibly(FeedbackKind.POSSIBLY_PASSED_OVER, at, record)

    def _possibly(self, kind: FeedbackKind, at: datetime, record: AnswerRecord) -> Iterator[Signal]:
        """Yield one event an answer, whether the client reported it, or a send or a question shows it."""
        if record.certainty is Certainty.POSSIBLY:
            yield self._question_only(self._event(kind, record.answer_id, at, record), record)

    def _event(self, kind: FeedbackKind, act_id: str, at: datetime, record: AnswerRecord) -> FeedbackEvent:
        return FeedbackEvent(
            event_id=hashlib.sha256(f"{self._tenant}\n{kind.value}\n{act_id}".encode()).hexdigest(),
            kind=kind,
            at=at,
            tenant=self._tenant,
            answer_id=record.answer_id,
            conversation=self._pseudonym("conversation", record.conversation_id),
            agent=self._pseudonym("agent", record.agent),
            reader_labels=tuple(sorted(record.labels)),
            asked_at=record.asked_at,
            mode=record.mode,
            certainty=record.certainty,
            finish_reason=record.finish_reason,
            documents=_documents(record),
            prompt_id=record.prompt_id,
            prompt_hash=record.prompt_hash,
            model_id=record.model_id,
            model_digest=record.model_digest,
            weights=record.weights,
            index_version=record.index_version,
            settings_hash=record.settings_hash,
        )

    def _signal(
        self,
        event: FeedbackEvent,
        answer: ShownAnswer,
        *,
        sent: str | None = None,
        better_text: str | None = None,
    ) -> Signal:
        shown = answer.filled.text if answer.is_whole else ""
        words = FeedbackText(question=answer.record.question, shown=shown, sent=sent, better_text=better_text)
        return Signal(event, words, answer.record.sight().quoted)

    def _question_only(self, event: FeedbackEvent, record: AnswerRecord) -> Signal:
        return Signal(event, FeedbackText(question=record.question), ())

    def _pseudonym(self, what: str, name: str) -> str:
        code = hmac.new(self._secret, f"feedback/1:{what}:{name}".encode(), hashlib.sha256)
        return code.hexdigest()[:_PSEUDONYM_DIGITS]


def _documents(record: AnswerRecord) -> tuple[ShownDocument, ...]:
    cited = {n for sentence in record.sentences for n in sentence.citations}
    quoted = {unit.document_id for unit in record.quoted}
    quoted |= {use.document_id for use in record.passages if use.n in cited}
    listed = {use.document_id for use in record.passages}
    return tuple(
        ShownDocument(
            document_id=one.document_id,
            position=position,
            score=one.score,
            features=one.features,
            propensity=record.propensity,
            is_listed=one.document_id in listed,
            is_quoted=one.document_id in quoted,
        )
        for position, one in enumerate(record.candidates, 1)
    )


def _drafts(record: AnswerRecord) -> Sequence[str]:
    """Return the texts that an agent may have begun with: the reply's draft, the supported sentences, all."""
    supported = [
        record.text[one.start : one.end] for one in record.sentences if one.support is Support.SUPPORTED
    ]
    texts = (record.reply_draft or "", "\n".join(supported), record.text)
    return [text for text in texts if text.strip()]


def _asked(record: AnswerRecord) -> Asked:
    first = record.candidates[0].document_id if record.candidates else None
    return Asked(record.question, first)
