"""Matches questions with the answers that reviewers approved, and checks an answer's sources at the moment it
is served.

The same question gets its answer. To a near one the answer is offered, and the agent decides: a vector does
not tell "a child" from "an adult". docs/decisions/0046 has the measurements.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from heapq import nsmallest
from operator import itemgetter, mul
from typing import Literal

from assistant.answer.excerpts import Excerpts, Place, shown_title
from assistant.answer.offers import Cite, QuotedBlock
from assistant.answer.scores import CosineScale
from assistant.domain.answers import APPROVED_PREFIX, ApprovedUse, ShownAs
from assistant.domain.documents import Passage, Span, StoredDocument
from assistant.options.desk.domain import ApprovedAnswer
from assistant.text.language import Language, quantities

LEAST_COSINE = 0.48
"""Of a question that is offered an answer, on the scale of the packaged model. Chosen on
evaluation/approved/tuning_pharmacy.jsonl, like the two below."""
_UNCOUNTED = frozenset({"0", "1", "2"})
"""Numbers that may differ: "one" is a pronoun, "two plans" may be said by naming both."""
_SHORTEST_NAME = 4
"""Characters: a shorter word that is no common one is an abbreviation."""
_NEAREST = 8
"""Wordings whose cosine is computed at most: a scalar product takes 15 µs."""

Reason = Literal["equal", "near", "none_near", "number", "name"]
"""``equal``: the answer is served; ``near``: it is offered. The others say why there is none."""


def approved_hash(text: str) -> str:
    """Return what names one text of an approved answer, as a content hash names a document's."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """An approved answer that is live, as the desk holds it."""

    item_id: str
    revision: int
    at: datetime
    """When this revision was made."""
    answer: ApprovedAnswer


@dataclass(frozen=True, slots=True)
class Match:
    """The approved answer that is nearest to a question and open to its reader, and what it is for it."""

    reason: Reason
    live: LiveAnswer | None = None
    wording: str = ""
    """The approved question that is nearest."""
    cosine: float = 0.0


@dataclass(frozen=True, slots=True)
class _Wording:
    live: LiveAnswer
    question: str
    vector: Sequence[float]
    signs: int
    same: str
    """``Language.question_key`` of the question."""
    told: frozenset[str]
    """Names in the item's questions and text."""


@dataclass(frozen=True, slots=True)
class ApprovedAnswers:
    """The approved answers of one tenant, ready to match."""

    wordings: tuple[_Wording, ...]
    language: Language
    scale: CosineScale
    told: frozenset[str]
    """Names in any item's questions and text."""

    @classmethod
    def of(cls, answers: Iterable[LiveAnswer], *, language: Language, scale: CosineScale) -> ApprovedAnswers:
        """Return answers that have a vector for each question, by the model that embeds what is asked."""
        wordings = tuple(
            _Wording(
                live, question, array("f", vector), _signs(vector), language.question_key(question), told
            )
            for live in answers
            for told in [_names(" ".join((*live.answer.questions, live.answer.text)), language)]
            for question, vector in zip(live.answer.questions, live.answer.vectors, strict=True)
        )
        told = frozenset[str]().union(*(wording.told for wording in wordings))
        return cls(wordings, language, scale, told)

    def match(self, question: str, vector: Sequence[float], *, labels: frozenset[str], today: date) -> Match:
        """Return the approved answer to serve or to offer, or why there is none.

        ``vector``: of the question as asked, of unit length. The caller checks the answer's sources.
        """
        open_now = [
            wording
            for wording in self.wordings
            if labels.issuperset(wording.live.answer.labels) and today < wording.live.answer.expires_on
        ]
        same = self.language.question_key(question)
        equal = [wording for wording in open_now if wording.same == same]
        cosines = [
            (self.scale.value(sum(map(mul, vector, wording.vector))), wording)
            for wording in _nearest(vector, equal or open_now)
        ]
        if not cosines:
            return Match("none_near")
        cosine, nearest = max(cosines, key=itemgetter(0))
        reason: Reason = "near"
        if equal:
            reason = "equal"
        elif cosine < LEAST_COSINE:
            return Match("none_near")
        elif _numbers(question) != _numbers(nearest.question):
            reason = "number"
        else:
            names, approved = (_names(text, self.language) for text in (question, nearest.question))
            # A rare word that no approved answer has is a misspelling as often as a name.
            if names & self.told - nearest.told and approved - names:
                reason = "name"
        return Match(reason, nearest.live, nearest.question, cosine)


def _nearest(vector: Sequence[float], wordings: Sequence[_Wording]) -> Sequence[_Wording]:
    """Return the nearest wordings by the signs of their vectors' elements: these tell the angle to 5 degrees
    or so, in 0.1 µs instead of 15."""
    if len(wordings) <= _NEAREST:
        return wordings
    signs = _signs(vector)
    return nsmallest(_NEAREST, wordings, key=lambda wording: (wording.signs ^ signs).bit_count())


def _numbers(question: str) -> frozenset[str]:
    found = quantities(question)
    return found.values - _UNCOUNTED | found.codes


def _names(text: str, language: Language) -> frozenset[str]:
    """Return the stems of a text's rare words: medicines, forms, plans."""
    stems = {word: language.stem(word) for word in language.content_words(text)}
    return frozenset(
        stem
        for word, stem in stems.items()
        if len(word) >= _SHORTEST_NAME and word.isalpha() and not language.is_common(word)
        if not language.is_common(stem)
    )


def _signs(vector: Sequence[float]) -> int:
    """Return a bit for each element: whether it is positive."""
    return int("".join(["1" if value > 0.0 else "0" for value in vector]), 2)


# What serves, or is offered


APPROVED_SOURCE = "Approved answer"
"""``source`` and ``type`` of an approved answer among the numbered sources."""
_PARAGRAPH = re.compile(r"\S(?:.|\n(?!\s*\n))*")


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """An approved answer, to serve or to offer, whose sources were just found unchanged."""

    live: LiveAnswer
    documents: Mapping[str, StoredDocument]
    """Its sources, by id, in the order of the item."""
    answers: bool
    """Whether it answers the same question, and is served. Otherwise it is only offered."""
    wording: str
    """The approved question that is nearest."""

    @property
    def refusal(self) -> str:
        return ""

    @property
    def use(self) -> ApprovedUse:
        return ApprovedUse(item_id=self.live.item_id, revision=self.live.revision)

    @property
    def passage(self) -> Passage:
        """The approved answer as a source: one passage without units."""
        answer = self.live.answer
        document_id = APPROVED_PREFIX + self.live.item_id
        return Passage(
            passage_id=f"{document_id}#{self.live.revision}",
            document_id=document_id,
            content_hash=approved_hash(answer.text),
            ordinal=0,
            title=shown_title(answer.questions[0]),
            heading="",
            text=answer.text,
            span=Span(0, len(answer.text)),
            token_count=0,
            source=APPROVED_SOURCE,
            type=APPROVED_SOURCE,
            url=None,
            updated_at=self.live.at,
            labels=answer.labels,
        )

    def blocks(self, cite: Cite, excerpts: Excerpts, *, opening: str) -> list[QuotedBlock]:
        """Return its paragraphs. Each cites the answer itself and the documents that it rests on."""
        passage = self.passage
        n = cite(passage)
        documents = self.documents.values()
        rests_on = tuple(cite(document.passages[0]) for document in documents if document.passages)
        built: list[QuotedBlock] = []
        end = 0
        for paragraph in _PARAGRAPH.finditer(passage.text):
            text, span = paragraph[0], paragraph.span()
            before = passage.text[end : paragraph.start()] if built else opening
            excerpts.add(text, Place(passage.document_id, passage.content_hash, (span,), ShownAs.UNIT))
            built.append(QuotedBlock(before, text, passage, span, n, rests_on=rests_on))
            end = paragraph.end()
        return built
