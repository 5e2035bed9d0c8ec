"""Records of answers, verdicts, sent texts and other acts, and the excerpts of documents in them.

A record stores a document's text by its place, not by its words: in place of the text it has a
*run*, a private-use character that is unique to the excerpt, repeated to the length of the text. So offsets
in the stored text are those of the shown one. A reader replaces the runs with the document store's current
text (``assistant.answer.excerpts``). Example: an answer quotes "Refill after 75 %.", 18 characters, as its
first excerpt (``mark`` 0). Its record's text has U+F0000 18 times instead, and
``Excerpt(mark=0, letters=18, spans=((120, 138),), …)``.

Records of all releases must stay readable, and ``PublicModel`` refuses unknown fields. So a new field has a
default, and an older release, to which a deployment may roll back, must not meet it in most records:
``exclude_if`` omits the field while it has its default, or ``assistant.stores.formats`` stores it beside the
record.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from assistant.domain.audit import AccessEntry
from assistant.domain.documents import Loading, SearchFilters
from assistant.domain.live import LONGEST_MAC, Element, ElementUse, LiveText
from assistant.domain.public import PublicModel, RecordId

FINDING_ID = 16
"""Characters of a finding's id."""
MOST_EXCERPTS = 60_000
"""Each excerpt of an answer needs its own character of the supplementary private use area A, which has 65,534
(U+F0000 to U+FFFFD); less a margin."""


class ShownAs(StrEnum):
    """How the text of the span was changed before it was shown."""

    UNIT = "unit"
    """Markdown without active content."""
    HEADING = "heading"
    """The heading above the unit, as Markdown."""
    PATH = "path"
    """The headings above the passage, joined by " > "."""
    SNIPPET = "snippet"
    """The beginning of the span, white space collapsed."""
    SNIPPET_INSIDE = "snippet_inside"
    """The same after an ellipsis, because the passage begins before it."""
    REPLY = "reply"
    """Of the ``reply_draft`` of older records, which is not shown any more."""
    LINES = "lines"
    """Several spans, each an item of a list."""


class Excerpt(PublicModel):
    """One stretch of a document's text as an answer showed it."""

    mark: int = Field(ge=0, lt=MOST_EXCERPTS)
    """Number among the answer's excerpts, which gives the character of the run."""
    document_id: str
    content_hash: str
    spans: tuple[tuple[int, int], ...]
    """[start, end) in the parsed text of that content."""
    shown_as: ShownAs
    letters: int = Field(ge=1)
    """Characters of the shown text."""
    heading_letters: int = 0
    """For a heading: how many characters at the end of the heading path are shown."""
    url: str | None = None
    """In excerpts of earlier releases: the document's own address, which alone was kept in a unit's text."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Words shown in place of a live element's tag, by the tag: ``{"orders.status": "[order status]"}``. They
    are the connector's, as they were then."""
    text_hash: str
    """First 16 digits of the shown text's SHA-256, so that no other text is shown in its place."""


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    """The model's service ended its text by a filter of its own."""
    NO_EVIDENCE = "no_evidence"
    REFUSED = "refused"
    SOURCES_ONLY = "sources_only"


class Outcome(StrEnum):
    """How the record ended: a finish reason is known only for ``DONE``."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DISCONNECTED = "disconnected"


class Support(StrEnum):
    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    """The agent must check the sentence; ``Sentence.detail`` tells more."""


class Mode(StrEnum):
    """How the text of an answer was made."""

    QUOTED = "quoted"
    """Units of documents, verbatim."""
    WRITTEN = "written"
    """By the model, sentence by sentence checked."""


class Certainty(StrEnum):
    """How certain an answer is."""

    ANSWERED = "answered"
    """Of a written answer alone: whether a quoted section answers, the agent sees."""
    POSSIBLY = "possibly"
    """Of a written answer that the agent must check: a sentence is missing or none is supported, or its
    sources are not whole. Of a quoted one that is only the nearest."""


class Correction(PublicModel):
    """A word of the question that was also searched in the spelling of the knowledge base."""

    said: str
    read_as: str


class SourceAsked(PublicModel):
    """One source of documents and its part in an answer. Older records have live systems, too."""

    name: str
    kind: str
    weight: float = Field(ge=0.0, le=1.0)
    """How much it matters for the question, by the router."""
    state: Literal["answered", "empty", "late", "failed", "off", "refused", "not_asked"]
    """``empty``: it answered and has nothing. ``late``, ``failed``: it is left out of it. ``off``,
    ``refused``: of live systems, in older records."""


class Cell(PublicModel):
    """A cell of a row that is quoted as one line: "Plan: Medicare; File within: 65 days"."""

    name: tuple[int, int]
    """[start, end) of its column's name in the text that has the row; empty where the column has none."""
    value: tuple[int, int]
    is_key: bool = False
    """Whether the question names the column and the row matters most."""

    def moved(self, by: int) -> Cell:
        """Return the cell for a text in which it begins ``by`` characters later: (3, 7) by 10 is (13, 17)."""
        (first, last), (start, end) = self.name, self.value
        places = {"name": (first + by, last + by), "value": (start + by, end + by)}
        return self.model_copy(update=places)


class TableRow(PublicModel):
    """A row of a table in a quote. Rows on neighbouring lines are one table."""

    start: int
    end: int
    """[start, end) in the quote's text."""
    is_key: bool = False
    cells: tuple[Cell, ...]


class AlsoPossible(PublicModel):
    """A quote of another document that contends with the quoted one."""

    document_id: str
    title: str
    effective_date: date | None
    text: str
    """Markdown."""
    citations: tuple[int, ...]
    """Numbers of the sources of its units, ascending."""
    rows: tuple[TableRow, ...] = Field(default=(), exclude_if=lambda rows: not rows)
    """Rows of tables in the text, in order."""


class QuotedUnit(PublicModel):
    """A unit that was quoted: where it stands, not its text."""

    document_id: str
    content_hash: str
    span: tuple[int, int]
    """[start, end) in the document's parsed text."""


class CandidateDocument(PublicModel):
    """A document that ranking weighed, with what it knew of it: enough to rank again by other weights."""

    document_id: str
    score: float
    features: dict[str, float]
    """Raw values by name; a feature that no leg gave is absent."""


APPROVED_PREFIX = "approved/"
"""Begins the ``document_id`` of an approved answer; no document's id may hold a slash."""
SourceKind = Literal["document", "approved"]


def source_kind(document_id: str) -> SourceKind:
    """Return "approved" for "approved/17c2", and "document" for a document's id such as "wiki:refill"."""
    return "approved" if document_id.startswith(APPROVED_PREFIX) else "document"


class SourceFacts(PublicModel):
    """What a source of a shop says in fields: of an item of the catalogue, or of a review or answer."""

    item_id: str
    """The item that it is about."""
    price: Decimal | None = None
    currency: str | None = None
    rating: float | None = None
    """Stars of one review, 1 to 5; of a catalogue's item its mean."""
    ratings: int | None = None
    """How many ratings the mean is of."""
    helpful_votes: int | None = None
    verified: bool | None = None
    """Whether the author of a review bought the item."""


class Source(PublicModel):
    """One numbered source as the client sees it."""

    kind: SourceKind = "document"
    """``approved``: an answer that reviewers approved. It has no stored document to open."""

    n: int
    document_id: str
    title: str
    heading: str = ""
    """Headings of the passage, joined by " > "."""
    effective_date: date | None = None
    banner: str = Field(default="", exclude_if=lambda banner: not banner)
    """What each page of the document says at its edge or across it: "SUPERSEDED". Show it with the quote."""
    url: str | None
    """The original at its publisher; may be absent."""
    source: str
    score: float
    """Fused score, for display only."""
    snippet: str
    facts: SourceFacts | None = None
    """What a shop's document said when it was found. Its date is ``effective_date``."""
    span: tuple[int, int]
    """[start, end) in the stored text."""
    content_hash: str = ""
    """Hash of the content that the span refers to; ``GET /v1/documents/{id}`` marks the passage by both.
    Empty in events of older releases."""
    withdrawn: bool = False
    """In a stored answer: the document was withdrawn since, or the reader may not read it any more."""
    document_url: str
    """Path on this service that opens the stored text at the passage in any browser, for 10 minutes. The
    token is in the fragment, so that no log contains it. Empty for an approved answer."""


class CitedUnit(PublicModel):
    """A unit that a sentence cites, or that it quotes."""

    n: int
    """Number of the source."""
    start: int
    end: int
    """[start, end) in the source's stored text."""


QuotedAs = Literal["shown", "folded"]


class SentenceCheck(PublicModel):
    """What a model says of one shown sentence, compared with the lines that it cites."""

    index: int
    """Of the sentence (``Sentence.index``)."""
    verdict: Literal["held", "not_held", "opposite"]
    """``held``: it follows from the lines or the conversation. ``opposite``: a line says otherwise.
    ``not_held``: neither says it."""
    words: str = ""
    """What is wrong, copied from the sentence; empty where it is held."""
    cited: CitedUnit | None = None
    """The line that decides, where one does."""


class Sentence(PublicModel):
    """One finished sentence of the answer."""

    index: int
    start: int
    end: int
    """[start, end) in the answer's text."""
    citations: tuple[int, ...]
    support: Support
    detail: Literal["check", "withheld"] | None = None
    """How an unsupported sentence appears. ``check``: it is shown, and the units that it cites do not carry
    all of it. ``withheld``: it is not shown, its span is empty, and ``values`` says why."""
    values: tuple[str, ...] = Field(default=(), max_length=20)
    """Numbers, codes and names of a withheld sentence that nothing which the model was given holds."""
    reasons: tuple[str, ...] = ()
    """Why it is unsupported: a code of ``assistant.answer.support.REASONS``."""
    relevance: float | None = None
    """Share of the question's terms in it and its headings, 0 to 1. It is independent of support."""
    cited: tuple[CitedUnit, ...] = ()
    """Units that it rests on: those that a written sentence cites, or the one that is quoted. Empty in quotes
    of older records."""
    is_key: bool = False
    """Whether it is one of the lines of a quoted section that matter most for the question."""
    quote: QuotedAs | None = None
    """Set where [start, end) is stored text of a document, unchanged: plain text, never Markdown; of an item
    of a catalogue, its lines as a list. ``folded``: a page may fold it, for it is far from the marked lines
    and no warning. None: a model or a reviewer wrote it."""
    cells: tuple[Cell, ...] = Field(default=(), exclude_if=lambda cells: not cells)
    """Cells of a table's row: show it and the rows beside it as a table."""


class RedFlag(PublicModel):
    """An emergency that the tenant file describes and that a message is about. It is shown above the answer,
    and never in place of it."""

    name: str
    text: str
    """What the agent must know or do, from the tenant file."""
    call: str
    """Whom to call."""


class OfferedAnswer(PublicModel):
    """An approved answer to a question near the one that was asked. The agent decides whether it fits."""

    item_id: RecordId
    revision: int
    question: str
    """The approved question that is nearest."""
    text: str
    """The approved answer, Markdown."""
    n: int
    """Number of the source that it is."""


class Reading(PublicModel):
    """How a message was read: made once, before the search. Nothing below it parses the message again."""

    made_by: Literal["plain", "model"] = "plain"
    """``model``: only in records from before 0.3.0, whose texts a model may have written."""
    questions: tuple[str, ...]
    """The questions of the message, at least one, in the agent's words."""
    search_text: str = Field(default="", exclude=True)
    """Read from older records, and ignored: the question below the one before it."""
    leans: bool = False
    """Whether the message makes sense only after the question before it: without a model nothing is
    searched."""
    kind: str = Field(default="", exclude=True)
    """Read from older records, and ignored."""
    asks: bool = Field(default=True, exclude_if=lambda asks: asks)
    """False for a greeting or thanks: no document need answer it. Omitted otherwise."""
    items: tuple[str, ...] = ()
    """Ids of the catalogue's items that the message names."""
    ids: tuple[str, ...] = Field(default=(), exclude=True)
    """Read from older records, and ignored: numbers and codes."""
    elements: tuple[str, ...] = ()
    """Live elements that the message asks for, by name."""
    language: str | None = Field(default=None, exclude_if=lambda code: code is None)
    """ISO 639-1 code of the customer's language; None: it is the documents', or no model read it."""


class Usage(PublicModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class PassageUse(PublicModel):
    """What the record keeps of one retrieved passage: its text only by hash."""

    passage_id: str
    """Empty, like ``text_hash``, in the record of an interrupted answer, whose sources alone are known."""
    document_id: str
    content_hash: str
    text_hash: str
    n: int
    rank: int
    fused_score: float
    lexical_rank: int | None
    lexical_score: float | None
    vector_rank: int | None
    cosine: float | None
    in_prompt: bool
    title: str
    span: tuple[int, int]
    url: str | None
    source: str


class GateDecision(PublicModel):
    """Whether anything was near the question.

    Records of earlier releases say more: what a gate made of the best document. New ones have the defaults.
    """

    passed: bool
    best_cosine: float
    """Cosine of the nearest passage or title; -1 where there is none."""
    min_cosine: float | None = None
    """From which something is near."""
    coverage: float = 0.0
    min_coverage: float | None = None
    missing_terms: tuple[str, ...] = ()
    probability: float | None = None
    answered_from: float | None = None
    possibly_from: float | None = None


class ApprovedUse(PublicModel):
    """An approved answer that was served."""

    item_id: RecordId
    revision: int


class LiveMatchState(StrEnum):
    """Why a live element was read for a question, or was not."""

    READ = "read"
    FAR = "far"
    """Its nearest example is not near enough."""
    NOT_ABOUT = "not_about"
    """A question that no element answers is as near."""
    WHAT_TO_DO = "what_to_do"
    """The question asks what to do, and not for a fact."""
    OTHER = "other"
    """Another element is nearer."""
    SHOWN = "shown"
    """The quoted text, or another element, shows its values."""
    NO_CUSTOMER = "no_customer"
    """A document answers, and the question came without the context of a customer."""


class LiveMatch(PublicModel):
    """How near one live element is to the clause of a question that is nearest to it."""

    element: str = Field(max_length=80)
    state: LiveMatchState
    cosine: float
    """With ``example``."""
    least: float
    """Cosine from which it is near enough."""
    against: float | None = None
    """Cosine with the nearest question that no element answers; None where the connector has none."""
    unknown_words: int = Field(ge=0)
    """0 today. In older records: content words that the connector does not use, which raised ``least``."""
    example: str = Field(max_length=200)
    """The connector's, as it was then."""


Guard = Literal["seen", "reason", "second_person"]
"""What a reply with findings (``ReplyCheck``) needs before it is sent. ``seen``: the agent confirms each
finding. ``reason``: the agent also says why the text is right. ``second_person``: another agent also confirms
it."""


class ReplyCheck(PublicModel):
    """What is wrong with a text for a patient, by the lines and live values of its answer."""

    kind: Literal["not_held", "reckoned", "contradicts", "missing"]
    """``not_held``: nothing holds its ``values``, or the sentence. ``contradicts``: a line says the opposite
    of the sentence, by a model alone. ``reckoned``, ``missing``: of older records."""
    start: int = 0
    end: int = 0
    """[start, end) in the text; the sentence."""
    values: tuple[str, ...] = Field(default=(), max_length=20)
    line: str | None = Field(default=None, exclude_if=lambda line: line is None)
    """The line that decides, where a model read the text. A record has none."""
    id: str = Field(default="", max_length=FINDING_ID, exclude_if=lambda name: not name)
    """Names the finding when a text is sent in spite of it: of its kind, values and words. A record has
    none."""

    @classmethod
    def found(
        cls,
        kind: Literal["not_held", "contradicts"],
        values: tuple[str, ...],
        *,
        words: str,
        start: int,
        line: str | None = None,
    ) -> Self:
        """Return a finding about the sentence ``words``, which begins at ``start`` in the text. The id
        depends on kind, values and words only: a repeated check gives the same."""
        name = hashlib.sha256(json.dumps([kind, values, words]).encode()).hexdigest()[:FINDING_ID]
        return cls(kind=kind, start=start, end=start + len(words), values=values, line=line, id=name)


class AnswerEnding(PublicModel):
    """How an answer ended, as its last event, its whole form and its record say it."""

    mode: Mode | None = None
    """None where there is no text, and in records of schema version 1."""
    certainty: Certainty | None = None
    """None where nothing was written, and for a quoted section that is more than the nearest one; in records
    of earlier releases these have one, too."""
    fallback: str | None = None
    """Why quotes took the place of written text: a code."""
    also: tuple[AlsoPossible, ...] = ()
    """Quotes of other documents that contend with the quoted one; the text has none of them."""
    clarify: str | None = None
    """A short question back: what a live system needs to know."""
    unanswered: tuple[str, ...] = ()
    """Questions of the message that nothing answers, in the agent's words, where another one is answered;
    absent in older records."""
    escalation: str | None = None
    """Whom to ask, where a section is quoted, a written answer is to be checked, or a live system was asked;
    none where nothing answers, for thanks, beside an emergency."""
    corrections: tuple[Correction, ...] = ()
    """Corrections of spelling, which earlier releases made; empty now."""
    degraded: tuple[str, ...] = ()
    """Steps that were left out because they failed or were late: ask again for a calm answer."""
    asked: tuple[SourceAsked, ...] = ()
    """The tenant's sources of documents, how much each mattered, and which of them did not answer; empty
    where it has only one source. Of live systems the elements say it."""
    loading: tuple[Loading, ...] = Field(default=(), exclude_if=lambda loading: not loading)
    """Sources that load for the first time, and documents that the index lost: an answer from one of them may
    change. Omitted when there are none, so that an older release can read the record."""
    checks: tuple[ReplyCheck, ...] = Field(default=(), exclude_if=lambda checks: not checks)
    """What is wrong with a reply. ``degraded`` has ``reply_check`` where the model did not read it."""


class BegunAnswer(PublicModel):
    """What is known of an answer when its first text is due: who asked what, and what it rests on."""

    schema_version: Literal[1, 2, 3] = 3
    # What was asked, and by whom
    answer_id: RecordId
    conversation_id: RecordId
    reply_to: RecordId | None = Field(default=None, exclude_if=lambda answer_id: answer_id is None)
    """The answer that a reply to a patient is written from, whose id is its conversation's, too."""
    agent: str
    customer: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """The customer of the question's care context; omitted without one."""
    chat: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """The context's first id of the kind ``chat``: the customer's chat in the helpdesk."""
    asked_at: datetime
    context_id: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """Id of the signed context that the question came with (``CareContext.token_id``): its replies go to that
    conversation alone."""
    written_at: datetime | None = Field(default=None, exclude_if=lambda at: at is None)
    """When the last message of a chat was written, where the request says it."""
    question: str
    retrieval_question: str
    """The search text, with meanings of its words; in older records with the question before it."""
    filters: SearchFilters
    labels: tuple[str, ...]  # access labels of the agent, sorted
    follows: RecordId | None = None
    """The answer before it in its conversation; absent in a conversation's first record, and in records of
    older releases."""
    reading: Reading | None = None
    """Absent in records of older releases."""
    red_flags: tuple[str, ...] = ()
    """Names of the tenant's red flags that the message raised."""
    unchecked_language: str | None = None
    """ISO 639-1 code of the message's language, where red flags are not checked in it."""
    # What was found for it
    index_version: str
    passages: tuple[PassageUse, ...]  # retrieved, also those that no sentence cites
    gate: GateDecision | None
    candidates: tuple[CandidateDocument, ...] = Field(default=(), max_length=20)
    live_matches: tuple[LiveMatch, ...] = Field(default=(), max_length=200)
    """How near each live element with example questions was; absent in records of older releases."""
    offered: ApprovedUse | None = None
    """The approved answer that was offered beside the answer."""
    # What makes it: enough to repeat it. None where no model is asked
    prompt_id: str
    prompt_hash: str | None
    dropped_passages: int = 0
    """Whole passages that did not fit into the prompt."""
    model_id: str
    model_digest: str | None
    parameters: dict[str, Any]  # {"max_tokens": 400, "temperature": 0.0, "history_turns": 1}
    settings_hash: str  # of the tenant file: Tenant.settings_hash
    weights: dict[str, str] = Field(default_factory=dict)
    """SHA-256 (hex) of each weights file, or of the release that took its place, by kind."""
    trace_id: str | None = None


class EndedAnswer(AnswerEnding):
    """How an answer ended, and all that was shown. Of one that is begun and not ended, text and sentences are
    empty."""

    finished_at: datetime
    outcome: Outcome
    finish_reason: FinishReason | None
    error_code: str | None = None
    text: str
    sentences: tuple[Sentence, ...]
    removed_markers: tuple[str, ...] = ()
    """``[n]`` markers of the model that name no source and were removed."""
    usage: Usage
    timings_ms: dict[str, float]  # by step of the answer
    inference_id: str | None = None  # of the writing model's endpoint
    variant: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """Production variant of the endpoint that wrote: the served model's, or a canary's. Omitted when no model
    wrote, so that an older release can read the record."""
    quoted: tuple[QuotedUnit, ...] = ()
    excerpts: tuple[Excerpt, ...] = ()
    """The excerpts of documents; empty in a record that a reader gets."""
    approved: tuple[ApprovedUse, ...] = ()
    """Approved answers that were quoted as they stand."""
    elements: tuple[ElementUse, ...] = Field(default=(), max_length=20)
    """Elements with live data or of documents' fields; their values are kept apart, for a shorter time."""
    differing: tuple[str, ...] = Field(default=(), exclude_if=lambda documents: not documents)
    """Documents whose rows, all shown, give one thing different values. Omitted when there are none."""


class AnswerRecord(BegunAnswer, EndedAnswer):
    """The record of one answer, written once at its end. Readers accept every older schema_version.

    From version 3 on the texts of documents stand in it as excerpts: ``text`` and ``also`` have runs in their
    place, which are filled when the record is read (``answering.excerpts``). What a model wrote itself stands
    in words.
    """

    propensity: float = Field(default=1.0, exclude=True)
    """Read from records before 0.3.0, and ignored: the share of conversations that a ranker on trial had."""
    reply_draft: str | None = Field(default=None, exclude=True)
    """Read from older records, and ignored: what a document said to the patient."""
    reply_of: RecordId | None = Field(default=None, exclude=True)
    """Read from older records, and ignored: the answer that the agent asked a reply from."""

    @classmethod
    def of(cls, begun: BegunAnswer, ended: EndedAnswer) -> AnswerRecord:
        """Return the record of both halves."""
        return cls(**dict(begun), **dict(ended))

    @property
    def written(self) -> datetime:
        """When the words of the question were written, as far as it is known."""
        return self.written_at or self.asked_at

    @property
    def is_for_desk(self) -> bool:
        """Whether the answer opens a case at the review desk without a verdict: the message is an emergency,
        no document answers it, or documents contradict each other."""
        return self.is_gap or bool(self.red_flags or self.differing)

    @property
    def is_gap(self) -> bool:
        """Whether a document could have answered the question, and none did.

        Not an emergency, a greeting or thanks, a question that makes no sense alone, and not where a live
        system was asked ("Where is order 4711?") or has to know more (``clarify``: "Which order?"): no
        document says that.
        """
        reading = self.reading
        asks = reading is None or (not reading.elements and reading.asks and not reading.leans)
        return self.is_unanswered and asks and not (self.red_flags or self.clarify)

    @property
    def is_unanswered(self) -> bool:
        """Whether the knowledge base had no certain answer, though it was complete."""
        is_near = self.mode is Mode.QUOTED and self.certainty is Certainty.POSSIBLY
        return (self.finish_reason is FinishReason.NO_EVIDENCE or is_near) and not self.loading

    def sight(self) -> AccessEntry:
        """Return the access entry of the agent who asked.

        ``documents``: all retrieved passages, which the answer lists as sources, and what it quotes.
        ``quoted``: those whose text it shows or cites, also in ``also``.
        """
        cited = {n for sentence in self.sentences for n in sentence.citations}
        cited |= {n for other in self.also for n in other.citations}
        quoted = [
            *(unit.document_id for unit in self.quoted),
            *(excerpt.document_id for excerpt in self.excerpts),
            *(other.document_id for other in self.also),
            *(use.document_id for use in self.passages if use.n in cited),
        ]
        listed = [use.document_id for use in self.passages]
        return AccessEntry(
            at=self.asked_at,
            agent=self.agent,
            kind="asked",
            subject_id=self.answer_id,
            documents=tuple(dict.fromkeys((*listed, *quoted))),
            quoted=tuple(dict.fromkeys(quoted)),
        )


class VerdictLabel(StrEnum):
    GOOD = "good"
    BAD = "bad"


_Reason = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Verdict(PublicModel):
    """An agent's mark on an answer. Append-only: the same id twice is one record."""

    verdict_id: RecordId
    label: VerdictLabel
    reasons: tuple[_Reason, ...] = Field(default=(), max_length=20)
    better_text: str | None = Field(default=None, max_length=20_000)
    wrong_citations: tuple[int, ...] = Field(default=(), max_length=100)


MAX_QUESTION_CHARACTERS = 4_000


class ChatTurn(PublicModel):
    """A message of the chat that a question is about."""

    who: Literal["customer", "agent", "system"]
    text: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARACTERS)
    ]
    at: datetime | None = None
    """When it was written."""


MOST_SENT_CHARACTERS = 20_000


class LiveSpan(PublicModel):
    """A place in a sent text that has a value of a live element."""

    element_id: str = Field(pattern=r"^e[1-9]\d?$")
    """Id of an element of the answer."""
    start: int = Field(ge=0)
    end: int = Field(ge=1)
    """[start, end) in the text, in code points."""
    mac: str = Field(default="", max_length=LONGEST_MAC, repr=False, exclude_if=lambda mac: not mac)
    """That of the value which stands there (``LiveText.mac``); a record has none."""


class Sent(PublicModel):
    """What the agent sent to the patient after editing. Append-only."""

    send_id: RecordId
    text: str = Field(min_length=1, max_length=MOST_SENT_CHARACTERS)
    reply_id: RecordId | None = Field(default=None, exclude_if=lambda reply_id: reply_id is None)
    """The reply that it was edited from: ``answer_id`` of its record."""
    began_with: Literal["lines", "approved", "nothing"] | None = Field(
        default=None, exclude_if=lambda began_with: began_with is None
    )
    """What the agent began with: lines of the answer or of a suggestion, the approved answer that was offered
    beside it, or nothing. None for a written reply (``reply_id``), and where the client does not say."""
    lines: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(), max_length=200, exclude_if=lambda lines: not lines
    )
    """``index`` of each of the answer's sentences that it began with."""
    confirmed: tuple[Annotated[str, Field(max_length=FINDING_ID)], ...] = Field(
        default=(), max_length=200, exclude_if=lambda confirmed: not confirmed
    )
    """Ids of what the check found in it, and the agent looked at."""
    reason: str | None = Field(
        default=None, min_length=1, max_length=500, exclude_if=lambda reason: reason is None
    )
    """Why it is sent in spite of that; the tenant may ask for it."""
    live: tuple[LiveSpan, ...] = Field(default=(), max_length=100)
    """Where the text has values of live elements, in order and apart. They are kept for the time that the
    tenant file says; after it their labels stand there. A client that fills values in must say so, each with
    its MAC: a span without one is refused."""

    @model_validator(mode="after")
    def _spans_are_in_order_and_in_the_text(self) -> Self:
        at = 0
        for span in self.live:
            if not at <= span.start < span.end <= len(self.text):
                raise ValueError(
                    f"live has [{span.start}, {span.end}) of {span.element_id}; spans are in order, do not "
                    f"overlap, and lie in the {len(self.text)} characters of text"
                )
            at = span.end
        return self


class OfConversation(PublicModel):
    """The conversation that a text for the patient belongs to, as it was sent with the answer's question. The
    record has its question alone, of turns the customer's last words, so it comes with each request; without
    it the text is read below that."""

    question: str = Field(default="", max_length=MAX_QUESTION_CHARACTERS, repr=False)
    """What the agent asked."""
    turns: tuple[ChatTurn, ...] = Field(default=(), max_length=200, repr=False)
    """The chat, oldest first."""


class ReplyBody(OfConversation):
    """The body of ``POST /v1/answers/{id}/reply``."""

    style: Literal["shorter", "warmer", "plain_words"] | None = None
    """How to write it anew, from the same lines."""
    draft: str | None = Field(default=None, min_length=1, max_length=MOST_SENT_CHARACTERS)
    """The reply so far, to be written anew."""
    live: tuple[LiveText, ...] = Field(default=(), max_length=40)
    """Live values that the answer shows to this agent: a reply may say them."""
    resume_window_s: int = Field(default=0, ge=0, le=30)
    """How long it goes on without a reader, so that one can come back; 0: it ends at once."""


class CheckBody(OfConversation):
    """The body of ``POST /v1/answers/{id}/reply/check``."""

    text: str = Field(min_length=1, max_length=MOST_SENT_CHARACTERS)
    live: tuple[LiveText, ...] = Field(default=(), max_length=40)
    by_model: bool = True
    """Whether the model that writes reads the text, too; without it the check is at once."""


class AgentAct(StrEnum):
    """What a client reports of an answer beside verdicts and sent texts."""

    OPENED_SOURCE = "opened_source"
    POSSIBLY_TAKEN = "possibly_taken"
    POSSIBLY_PASSED_OVER = "possibly_passed_over"
    """This and the one before: clients before 0.3.0 report them. They are stored, and nothing reads them."""
    OFFERED_USED = "offered_used"
    SUGGESTION_OPENED = "suggestion_opened"
    """The answer began because the agent opened an unasked suggestion."""
    SUGGESTION_INSERTED = "suggestion_inserted"
    """Its lines went into the reply."""


class Act(PublicModel):
    """What the agent did with an answer. Append-only: the same id twice is one record."""

    act_id: RecordId
    kind: AgentAct
    n: int | None = Field(default=None, ge=1, le=100)
    """Number of the opened source; None for the other kinds."""


class _OfAnswer(PublicModel):  # whose answer and when; the stored forms below add what was said
    answer_id: RecordId
    agent: str
    at: datetime


class StoredVerdict(_OfAnswer):
    verdict: Verdict


class StoredSent(_OfAnswer):
    sent: Sent
    """As it is kept: labels stand for live values, or the values themselves until ``live_until``."""
    live_until: datetime | None = None
    """Until when the live values can be read; None where labels stand for them, or the text has none."""
    delivered_hash: str | None = Field(default=None, exclude_if=lambda digest: digest is None)
    """HMAC-SHA256 (hex) of the text as it was delivered. The key is kept with the live values and expires
    with them; of a text without any it is empty. Absent in records of older releases."""


class StoredAct(_OfAnswer):
    act: Act


class StoredCheck(_OfAnswer):
    """What a model said of an answer's sentences once they were shown. Appended once."""

    model_id: str
    """Of the model that checked."""
    sentences: tuple[SentenceCheck, ...]
    """Without the words that it copied, which may be a customer's."""


class StoredAnswer(PublicModel):
    """``GET /v1/answers/{id}``: the record, and all that was said of it since."""

    record: AnswerRecord
    sources: tuple[Source, ...]
    """As in the ``sources`` event, with fresh links. Snippet and heading are empty and the date is null:
    records keep neither the passage's text nor its headings."""
    verdicts: tuple[StoredVerdict, ...]
    """Oldest first: the last one counts."""
    sent: tuple[StoredSent, ...]
    """Oldest first: the last one counts."""
    elements: tuple[Element, ...] = ()
    """Its live elements as they ended, without their values, which are not kept."""
    checked: StoredCheck | None = None
    """What a model said of its sentences; None where none checked them."""
