"""Makes feedback events of what an agent did and the record of the answer.

    StoredVerdict(wrong, reason "outdated") and the answer's record
    → Signal(event of kind "verdict", label "wrong", words: the question and the answer as shown)

An event's id is the hash of tenant, kind and the id of the act: a row that is read twice makes the same
events. Agents, conversations and patients stand in them by keyed hashes, whose key stays in the tenant's
account.
"""

from __future__ import annotations

import hashlib
import hmac
from calendar import day_name
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from assistant.answer.edits import MARKUP, begun_with, nearest_text, sentences_of, words_of
from assistant.domain.answers import (
    Act,
    AgentAct,
    AnswerRecord,
    Sent,
    StoredAct,
    StoredSent,
    StoredVerdict,
    Support,
    Verdict,
)
from assistant.options.desk.events import Edit, FeedbackEvent, FeedbackKind, FeedbackText, ShownDocument
from assistant.options.desk.feedback_store import StoredFeedback
from assistant.options.desk.section import DeskSection
from assistant.stores.desk import Contents, TwoPeople
from assistant.stores.events import StoredErasureKeys
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import WORD, fold, quantities, split_sentences, word_groups
from assistant.text.values import moments_of

REASONS = frozenset(
    {
        *("correct", "complete", "clear"),
        *("wrong", "outdated", "incomplete", "not_asked", "wrong_source", "unclear", "unsafe"),
    }
)
"""Codes that the console offers as reasons of a verdict (``verdict_form.tsx``). Any other reason is free
text, and left out."""
_PSEUDONYM_DIGITS = 32
"""Hexadecimal digits, as the pattern of ``events.Pseudonym`` has them: 128 bits."""


@dataclass(frozen=True, slots=True)
class Signal:
    """An event with the words that belong to it."""

    event: FeedbackEvent
    """Without ``text_id``, which sealing gives."""
    words: FeedbackText
    """Patients' data is in them: the mover replaces it before they are stored."""
    documents: tuple[str, ...]
    """Documents whose text may be in the words."""


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """An answer's record, and its record as the agent saw it."""

    record: AnswerRecord
    filled: AnswerRecord
    """The record with the documents' texts, or a notice in place of a text that is gone."""
    is_whole: bool
    """Whether no text of a document is gone."""
    reply: str | None = None
    """Text of the written reply (``Sent.reply_id``) that the agent edited and sent; None where the agent
    began with the answer."""


class Signals:
    """Makes the signals of one tenant. ``secret`` is the key of pseudonyms. It reads and writes no store."""

    def __init__(self, tenant: TenantConfig, *, secret: bytes) -> None:
        self._tenant = tenant.name
        self._switches = DeskSection.of(tenant).feedback
        self._secret = secret

    @property
    def keeps_texts(self) -> bool:
        return self._switches.texts

    def patient(self, member_number: str) -> str:
        """Return the subject of a patient's texts: ``patient:9a2b…``. It is the same for "ab-1234 5" and
        "AB12345"."""
        plain = "".join(character for character in member_number.upper() if character.isalnum())
        return f"patient:{self._pseudonym('patient', plain)}"

    def of(self, done: StoredVerdict | StoredSent | StoredAct | None, answer: ShownAnswer) -> list[Signal]:
        """Return the signals of what an agent did with an answer; for None, those of the answer itself, when
        its record was stored. The list is empty where the act makes no event, or the tenant switched its kind
        off."""
        match done:
            case StoredVerdict(verdict=verdict, at=at):
                return list(self._of_verdict(verdict, at, answer))
            case StoredSent(sent=sent, at=at):
                return list(self._of_sent(sent, at, answer))
            case StoredAct(act=act, at=at):
                return list(self._of_act(act, at, answer))
            case None:
                return list(self._of_answer(answer.record))

    def _of_verdict(self, verdict: Verdict, at: datetime, answer: ShownAnswer) -> Iterator[Signal]:
        record = answer.record
        document_of = {use.n: use.document_id for use in record.passages}
        wrong = dict.fromkeys(document_of[n] for n in verdict.wrong_citations if n in document_of)
        event = self._event(
            FeedbackKind.VERDICT,
            verdict.verdict_id,
            at,
            record,
            label=verdict.label,
            reasons=tuple(reason for reason in verdict.reasons if reason in REASONS),
            wrong_documents=tuple(wrong),
            has_better_text=bool(verdict.better_text),
        )
        yield self._signal(event, answer, better_text=verdict.better_text)

    def _of_sent(self, sent: Sent, at: datetime, answer: ShownAnswer) -> Iterator[Signal]:
        event = self._event(FeedbackKind.SENT, sent.send_id, at, answer.record, reply_id=sent.reply_id)
        if self._switches.edits:
            filled = answer.filled
            begun = begun_with(sent, filled) if answer.is_whole and filled.mode is not None else []
            begun = [answer.reply] if answer.reply else begun
            unsupported = sentences_of(filled, Support.UNSUPPORTED)
            edit = compare(begun, sent.text) if begun else None
            kept = keeps_any(unsupported, sent.text)
            event = event.model_copy(update={"edit": edit, "unsupported_sent": kept})
        yield self._signal(event, answer, sent=sent.text if self._switches.edits else None)

    def _of_act(self, act: Act, at: datetime, answer: ShownAnswer) -> Iterator[Signal]:
        match act.kind:
            case AgentAct.OPENED_SOURCE:
                opened = next((use.document_id for use in answer.record.passages if use.n == act.n), None)
                if self._switches.opened_sources and opened is not None:
                    kind, record = FeedbackKind.OPENED_SOURCE, answer.record
                    yield self._question_only(
                        self._event(kind, act.act_id, at, record, opened=opened), record
                    )
            case AgentAct.POSSIBLY_TAKEN | AgentAct.POSSIBLY_PASSED_OVER:
                pass  # clients of earlier releases report them; nothing reads them
            case AgentAct.SUGGESTION_OPENED | AgentAct.SUGGESTION_INSERTED:
                pass  # counted by the option that suggests
            case AgentAct.OFFERED_USED:
                kind, record = FeedbackKind.OFFERED_USED, answer.record
                # The record names the approved answer that was shown beside the answer, if one was.
                if (offered := record.offered) is not None:
                    event = self._event(kind, act.act_id, at, record, offered=offered.item_id)
                    yield self._question_only(event, record)

    def _of_answer(self, record: AnswerRecord) -> Iterator[Signal]:
        kinds = {
            FeedbackKind.EMERGENCY: bool(record.red_flags),
            FeedbackKind.UNANSWERED: record.is_gap,
            FeedbackKind.DIFFERENT_VALUES: bool(record.differing),
        }
        for kind in (kind for kind, applies in kinds.items() if applies):
            event = self._event(kind, record.answer_id, record.finished_at, record)
            yield self._question_only(event, record)

    def _event(
        self, kind: FeedbackKind, act_id: str, at: datetime, record: AnswerRecord, **kind_fields: Any
    ) -> FeedbackEvent:
        """Return the event of an act. ``kind_fields``: the fields of ``FeedbackEvent`` that this kind has."""
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
            variant=record.variant,
            weights=record.weights,
            index_version=record.index_version,
            settings_hash=record.settings_hash,
            **kind_fields,
        )

    def _signal(self, event: FeedbackEvent, answer: ShownAnswer, **words: str | None) -> Signal:
        """Return the event with the question, the shown text and the agent's words, which are further fields
        of ``FeedbackText``. ``shown`` stays empty where a document's text is gone."""
        shown = answer.reply or (answer.filled.text if answer.is_whole else "")
        text = FeedbackText(question=answer.record.question, shown=shown, **words)
        return Signal(event, text, answer.record.sight().quoted)

    def _question_only(self, event: FeedbackEvent, record: AnswerRecord) -> Signal:
        """Return the event with the question alone, which holds no text of a document."""
        return Signal(event, FeedbackText(question=record.question), ())

    def _pseudonym(self, what: str, name: str) -> str:
        """Return the keyed hash of a name: ``what`` (agent, conversation, patient) keeps equal names of two
        kinds apart. Stored events have these hashes, so the hashed text must not change."""
        code = hmac.new(self._secret, f"feedback/1:{what}:{name}".encode(), hashlib.sha256)
        return code.hexdigest()[:_PSEUDONYM_DIGITS]


def _documents(record: AnswerRecord) -> tuple[ShownDocument, ...]:
    """Return the ranked documents of an answer, and which of them were listed as sources and quoted."""
    cited = {n for sentence in record.sentences for n in sentence.citations}
    quoted = {unit.document_id for unit in record.quoted}
    quoted |= {use.document_id for use in record.passages if use.n in cited}
    listed = {use.document_id for use in record.passages}
    return tuple(
        ShownDocument(
            document_id=candidate.document_id,
            position=position,
            score=candidate.score,
            features=candidate.features,
            is_listed=candidate.document_id in listed,
            is_quoted=candidate.document_id in quoted,
        )
        for position, candidate in enumerate(record.candidates, 1)
    )


# An agent's words beside those of an answer


_WEEKDAYS = frozenset(map(fold, day_name))
# Units as ``Quantities.measures`` has them: folded, in the singular.
_STRENGTHS = frozenset({"mg", "mcg", "g", "kg", "ml", "l", "dl", "mg/dl", "mg/kg", "mmol", "iu", "ounce"})
_PORTIONS = frozenset({"unit", "tablet", "capsule", "drop", "puff", "dose", "pound", "time"})
_DOSE_UNITS = _STRENGTHS | _PORTIONS
_SAME_SENTENCE = 0.5
"""Share of common words from which two sentences are one sentence before and after an edit."""
_KEPT_SENTENCE = 0.8
"""Share of common words from which a sentence of the answer is still in the sent text."""
_NEGATIONS = word_groups("en_marks")["negation"]


def _plain_words(text: str) -> list[str]:
    """Return the folded words without a possessive "'s", so that "monday's" is a weekday."""
    return [word.removesuffix("'s") for word in WORD.findall(fold(text))]


def compare(shown: Sequence[str], sent: str) -> Edit:
    """Return how a sent text differs from the nearest of the texts that the agent may have begun with.

    >>> compare(["Take 20 mg once a day. Do not freeze it."], "Take 40 mg once a day. You may freeze it.")
    Edit(distance=3, words=10, changed_facts=('dose', 'negation'))
    """
    before, distance, words = nearest_text(shown, sent)
    return Edit(distance=distance, words=words, changed_facts=_changed_facts(before, sent))


def keeps_any(sentences: Iterable[str], text: str) -> bool:
    """Return whether one of the sentences is still in the text, whatever its Markdown."""
    sent = [words_of(sentence) for sentence in _sentences(text)]
    return any(
        _alike(words_of(sentence), words) >= _KEPT_SENTENCE for sentence in sentences for words in sent
    )


def _changed_facts(shown: str, sent: str) -> tuple[str, ...]:
    """Return the kinds of facts that differ between a sentence of the answer and what became of it.

    A sentence that was left out, and one that is the agent's own, change no fact of the answer.
    """
    shown_sentences = [(text, words_of(text)) for text in _sentences(shown)]
    changed: set[str] = set()
    for text in _sentences(sent):
        words = words_of(text)
        nearest = max(shown_sentences, key=lambda pair: _alike(pair[1], words), default=None)
        if nearest is None or nearest[1] == words or _alike(nearest[1], words) < _SAME_SENTENCE:
            continue
        old, new = _facts(nearest[0]), _facts(text)
        changed |= {kind for kind in old if old[kind] != new[kind]}
    return tuple(sorted(changed))


def _facts(sentence: str) -> Mapping[str, object]:
    """Return the sentence's facts by kind; only equality of two sentences' facts matters.

    "Do not take 20 mg before March 14": ``{"number": (set(), set(), set()), "code": set(),
    "dose": {("20", "mg")}, "date": ({"3/14"}, set()), "negation": 1}``; times of day are dates.
    """
    plain = MARKUP.sub(" ", sentence)
    (moments, rest), words = moments_of(fold(plain), stored=False), _plain_words(plain)
    # Of the moments only phone numbers have a hyphen: "800-555-0100" beside "3/14" and "8:30".
    numbers, phones = quantities(rest), {moment for moment in moments if "-" in moment}
    doses = {measure for measure in numbers.measures if measure[1] in _DOSE_UNITS}
    return {
        # A bare 1 is often the pronoun "one".
        "number": (numbers.bare - {"1"}, numbers.measures - doses, phones),
        "code": numbers.codes,
        "dose": doses,
        "date": ({*moments} - phones, _WEEKDAYS.intersection(words)),
        "negation": sum(word in _NEGATIONS or word.endswith("n't") for word in words),
    }


def _sentences(text: str) -> Iterator[str]:
    return (span.text for span in split_sentences(MARKUP.sub(" ", text)))


def _alike(first: Sequence[str], second: Sequence[str]) -> float:
    """Return the share of common words, 0 to 1: twice the common ones by the words of both (Dice)."""
    if not first or not second:
        return 0.0
    common = (Counter(first) & Counter(second)).total()
    return 2 * common / (len(first) + len(second))


# Erasing a patient


@dataclass(frozen=True, slots=True)
class Erased:
    """The receipt of an erasure. It does not have the member number."""

    subject: str
    """``patient:`` and the keyed hash of the member number."""
    had_key: bool
    """Whether there was a key; else nobody's words were sealed with it, or it is destroyed already."""
    texts: tuple[str, ...]
    """Ids of the sealed texts that nobody can read any more."""


@dataclass(frozen=True, slots=True)
class ErasePatient:
    """Destroys the key of one patient's sealed texts. A repeat changes nothing and lists the same texts."""

    signals: Signals
    keys: StoredErasureKeys
    feedback: StoredFeedback
    two_people: TwoPeople

    async def __call__(self, member_number: str, *, by: str, named: str | None = None) -> Erased:
        """Erase, and return the receipt. ``by``: who orders it. ``named``: as ``TwoPeople.admit`` takes it.

        Raises DependencyError; then the key may be destroyed already. Raises as ``TwoPeople.admit`` too; then
        nothing is destroyed.
        """
        subject = self.signals.patient(member_number)

        async def contents() -> Contents:
            ids = await self.feedback.texts_about(subject)
            return Contents.of(dict.fromkeys(ids, ""), f"{len(ids):,} texts")

        await self.two_people.admit("erase", subject, by=by, contents=contents, named=named)
        had_key = await self.keys.destroy(subject)
        return Erased(subject, had_key, tuple(await self.feedback.texts_about(subject)))
