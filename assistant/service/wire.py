"""Bodies of the API that are not domain types already. All offsets count Unicode code points."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from assistant.answer.events import Done, Sources, Started
from assistant.domain import answers
from assistant.domain.answers import OfConversation, Sent, StoredAnswer
from assistant.domain.audit import AccessEntry, LiveRead
from assistant.domain.documents import (
    Document,
    DocumentState,
    DocumentStatus,
    Loading,
    MediaType,
    UploadResult,
)
from assistant.domain.identity import ContextToken, PlainContext
from assistant.domain.live import Element, LiveText
from assistant.domain.public import PublicModel, fields_of


class WholeAnswer(Done, Sources, Started):
    """``POST /v1/answers`` with ``Accept: application/json``: the events of the stream in one body."""

    red_flags: tuple[answers.RedFlag, ...] = ()
    """Emergencies that the message may be about."""
    text: str
    sentences: tuple[answers.Sentence, ...]
    elements: tuple[Element, ...] = ()
    """The live elements of the text, each as it ended."""


class ElementRequest(PublicModel):
    """``POST /v1/answers/{id}/elements/{element_id}``."""

    context: ContextToken | PlainContext | None = Field(default=None, repr=False)
    """As in the question: the care application's token for this conversation."""


class SendRequest(Sent, OfConversation):
    """``POST /v1/answers/{id}/sent``."""

    shown: tuple[LiveText, ...] = Field(default=(), max_length=40)
    """Live values that the answer shows to this agent, as the check of a reply takes them; kept nowhere."""
    context: ContextToken | None = Field(default=None, repr=False)
    """The care application's token of the answer's question, as it came; it may have expired, and no other is
    taken. It goes on to the system that takes the tenant's replies, which knows the chat by it, and is kept
    nowhere."""

    @property
    def values(self) -> tuple[LiveText, ...]:
        """The live values that the text may say."""
        in_text = (
            LiveText(element_id=span.element_id, value=self.text[span.start : span.end], mac=span.mac)
            for span in self.live
        )
        return (*self.shown, *in_text)

    @property
    def sent(self) -> Sent:
        """What is kept."""
        return Sent(**fields_of(self, Sent))


class KeptSent(answers.StoredSent):
    """The response: what is kept, and which checks did not run."""

    degraded: tuple[str, ...] = Field(default=(), exclude_if=lambda degraded: not degraded)
    """``reply_check``: the model that writes did not read the text, and should have. ``no_lines``: the answer
    rests on no lines that can be read, and values were checked alone."""


class ConfirmRequest(PublicModel):
    """``POST /v1/answers/{id}/sent/confirm``, by another agent than who sends."""

    text: str = Field(min_length=1, max_length=answers.MOST_SENT_CHARACTERS)
    """Exactly as it waits."""
    contents: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """The digest that the refusal of the first request names: the agent looked at the findings."""


class ReplyChecks(PublicModel):
    """``POST /v1/answers/{id}/reply/check``."""

    checks: tuple[answers.ReplyCheck, ...]
    """Those that code found come first."""
    degraded: tuple[str, ...] = ()
    """``reply_check``: the model that writes did not read the text, and should have."""


class Conversation(PublicModel):
    """``GET /v1/answers?conversation_id=``: the newest 50 answers, oldest first."""

    conversation_id: str
    answers: tuple[StoredAnswer, ...]


class WithholdRequest(PublicModel):
    """``POST /v1/documents/{id}/withhold``."""

    reason: str = Field(min_length=1, max_length=1000)
    """Its owners read it in the document's state."""


class ReleaseRequest(PublicModel):
    """``POST /v1/documents/release``."""

    knowledge_source: str | None = Field(default=None, max_length=64)
    """As for ``POST /v1/documents``."""
    contents: dict[str, str] = Field(min_length=1, max_length=500)
    """Id of each document = the `content_hash` that the caller looked at."""


class WaitingDocument(PublicModel):
    """``GET /v1/documents/{document_id}/waiting``: what a release lets agents read."""

    content_hash: str
    brought_by: str | None
    document: Document
    answered: Document | None
    """The content that answered before, as far as it is kept and the caller may read it."""


class ReleasedDocuments(PublicModel):
    """What a release did."""

    released: int
    """Documents that answer once they are indexed."""
    waiting: tuple[str, ...]
    """Ids of documents that the caller brought: another person releases them; at most 100."""


class DocumentPage(PublicModel):
    """``GET /v1/documents?state=&find=&after=&limit=``: in order of document_id."""

    documents: tuple[DocumentStatus, ...]
    next_after: str | None
    """Give it as ``after`` for the next page; null on the last one."""
    counts: dict[DocumentState, int]
    """Documents of these sources by state."""
    loading: tuple[Loading, ...] = ()
    """These sources that load for the first time, and how far they are."""


class KeptContent(PublicModel):
    """A content of a document that the store keeps."""

    content_hash: str
    stored_at: datetime
    title: str
    labels: tuple[str, ...]
    characters: int
    is_newest: bool


class CitingAnswer(PublicModel):
    """An answer that had the document as a source. Its question is its agent's."""

    answer_id: str
    at: datetime


class DocumentDetails(PublicModel):
    """``GET /v1/documents/{id}/details``."""

    status: DocumentStatus
    contents: tuple[KeptContent, ...]
    """The newest first, those that the caller's labels open."""
    answers: tuple[CitingAnswer, ...]
    """Answers of the last 30 days, the latest first, at most 100."""
    has_more_answers: bool


class RestoreContentRequest(PublicModel):
    """``POST /v1/documents/{id}/restore``."""

    content_hash: str = Field(min_length=1, max_length=64)


class WritableSource(PublicModel):
    name: str
    access: Literal["everyone", "folder", "declared"]
    """Where its documents' labels come from."""
    folders: tuple[str, ...] = ()
    """With `folder`: the paths that have labels."""


class WritableSources(PublicModel):
    """``GET /v1/knowledge-sources``."""

    tenant: str
    labels: tuple[str, ...]
    """The caller's access labels, in order. What has other labels alone does not exist for the caller."""
    sources: tuple[WritableSource, ...]
    kinds: tuple[str, ...]
    """Endings of the names of files that are read; others are refused."""


class SourceContents(PublicModel):
    """``GET /v1/knowledge-sources/{name}/contents``."""

    name: str
    contents: str
    """Names them all: a withdrawal of the source that gives it withdraws these and no others."""
    documents: int
    """Those that are not withdrawn."""
    listed: dict[str, str]
    """Id = content hash of the first 1,000 of them."""


class WithdrawnSource(PublicModel):
    """``DELETE /v1/knowledge-sources/{name}/documents``."""

    name: str
    withdrawn: int
    """Documents that this request withdrew."""


class UploadState(PublicModel):
    """A file that the caller uploads, or uploaded."""

    upload_id: str
    path: str
    size_bytes: int
    result: UploadResult | None = None
    """Null until the file was read."""


class ReadingAgain(PublicModel):
    """A document that is read again."""

    upload_id: str | None
    """Null where nothing is to be read."""


class UploadStates(PublicModel):
    """``GET /v1/uploads?upload_id=``."""

    uploads: tuple[UploadState, ...]


class DocumentSection(PublicModel):
    headings: tuple[str, ...]
    start: int
    end: int


class DocumentTable(PublicModel):
    """A table of the stored text, whose rows are lines of it."""

    header: tuple[str, ...]
    """The columns' names, which each line repeats; empty without names."""
    rows: tuple[tuple[tuple[int, int], ...], ...]
    """For each row its cells as [start, end) in the text."""


class DocumentLink(PublicModel):
    """Words of the stored text that link to a document of the same source, or to a web page."""

    start: int
    end: int
    document_id: str | None
    """A document that the reader may open; None of a web page."""
    url: str | None


class DocumentOriginal(PublicModel):
    """The file that the text was read from, for ``format=original``."""

    name: str
    size_bytes: int
    media_type: str
    """``application/pdf``, which a browser shows; any other file is ``application/octet-stream``."""
    page: int | None
    """The page of the cited passage, from 1, of a PDF."""


class DocumentText(PublicModel):
    """``GET /v1/documents/{id}``: the stored text, as passages and their spans were cut from it."""

    document_id: str
    title: str
    url: str | None
    source: str
    type: str
    owner: str | None
    effective_date: date | None
    media_type: MediaType
    question: str | None
    text: str
    sections: tuple[DocumentSection, ...]
    content_hash: str
    span: tuple[int, int] | None
    """The cited passage, when one was named and the text is still the one it was cut from."""
    is_cited_version: bool
    """False when the cited content has been replaced since."""
    tables: tuple[DocumentTable, ...] = ()
    """In order of the text."""
    original: DocumentOriginal | None = None
    """None of a document that did not come from a file of another format."""
    links: tuple[DocumentLink, ...] = ()
    """In order of the text; a link that leads to no document is only text."""


class LinkToken(PublicModel):
    """Body of ``POST /v1/documents/linked``."""

    token: str
    """What stands behind the ``#`` of a source's ``document_url``."""
    format: Literal["text", "original"] = "text"
    """``original``: the received file, for a link that the page of the text offers."""


class AuditPage(PublicModel):
    """``GET /v1/audit``: who saw what in [since, until), oldest first."""

    since: datetime
    until: datetime
    entries: tuple[AccessEntry, ...]
    next_after: str | None
    """Give it as ``after``, with the same question, for the next page; null on the last one. A page may hold
    fewer entries than asked for, also none, and lead on."""


class LiveReadsPage(PublicModel):
    """``GET /v1/live-reads``: reads of live systems in [since, until), oldest first."""

    since: datetime
    until: datetime
    reads: tuple[LiveRead, ...]
    next_after: str | None
    """Give it as ``after``, with the same question, for the next page; null on the last one. A page may hold
    fewer reads than asked for, also none, and lead on."""


class OverviewCounts(PublicModel):
    """Numbers of answers, each on the day of its question."""

    questions: int = 0
    """All of them: the sum of the six that follow. Greetings and thanks are apart."""
    written: int = 0
    quoted: int = 0
    """A section, a table or live values, as they stand."""
    approved: int = 0
    not_found: int = 0
    failed: int = 0
    stopped: int = 0
    """The agent cancelled it, or went away."""
    thanks: int = 0
    gaps: int = 0
    """Not found: no document answers."""
    teachable: int = 0
    """Of the gaps, those to which a document was near: it may need a question, or another wording."""
    sent_as_is: int = 0
    """With the words that the agent began with (lines, a written reply), whatever its Markdown."""
    sent_edited: int = 0
    sent_own: int = 0
    """The agent began with nothing."""
    sent_not_compared: int = 0
    """The texts of its documents are withdrawn, or the agent began with an approved answer beside it."""
    not_sent: int = 0
    """It had a text, and no reply is recorded as sent."""
    marked_good: int = 0
    """By the last mark of each answer."""
    marked_bad: int = 0
    replied_10_s: int = 0
    """First reply sent at most 10 s after the question; the next numbers count from there to theirs."""
    replied_30_s: int = 0
    replied_60_s: int = 0
    replied_120_s: int = 0
    replied_300_s: int = 0
    replied_900_s: int = 0
    replied_later: int = 0


class OverviewDay(OverviewCounts):
    day: date


class OverviewRow(OverviewCounts):
    name: str
    """A source, whom answers name to ask, or the access labels of a group of agents."""


class OverviewDocument(PublicModel):
    """A document on which answers rest, or that was near."""

    document_id: str
    title: str
    answers: int
    edited: int
    """Replies that were edited before they were sent."""
    marked_bad: int
    teachable: int
    age_days: int
    """Since its effective date, or since it came."""
    damage: float
    """Answers, times years of age, times edited replies: where an owner should look first."""
    review_after: date | None
    is_due: bool
    """Whether its review date has passed."""


class Overview(PublicModel):
    """``GET /v1/overview``."""

    first: date
    last: date
    counted_at: datetime | None
    """When the newest day was counted."""
    smallest_group: int
    small_days: int
    """Days on which fewer agents than that asked: nothing of what they did is in any number."""
    uncounted_days: int
    """Days of the period that are not counted yet."""
    total: OverviewCounts
    days: tuple[OverviewDay, ...]
    sources: tuple[OverviewRow, ...]
    desks: tuple[OverviewRow, ...]
    groups: tuple[OverviewRow, ...]
    documents: tuple[OverviewDocument, ...]
    """The 100 with the greatest damage, then with the most answers."""
    others: int
    """Documents that the caller may not read, that are gone, or that come after the 100."""


OverviewTable = Literal["total", "days", "sources", "desks", "groups", "documents"]


class ConsoleConfig(PublicModel):
    """``/config.json`` of the console."""

    issuer: str
    client_id: str
    scopes: tuple[str, ...]
    service: str
    delivers: tuple[str, ...] = ()
    """Tenants whose sent replies are delivered; those of others are recorded only."""
    replies: tuple[str, ...] = ()
    """Tenants with a model that writes replies."""
    checks: tuple[str, ...] = ()
    """Tenants whose model checks what it wrote, sentence by sentence, as well as was asked of it. What the
    model of another tenant writes is not checked."""
    guards: dict[str, answers.Guard] = Field(default_factory=dict[str, answers.Guard])
    """Tenant = what a reply with findings needs before it is sent."""
    examples: dict[str, tuple[str, ...]] = Field(default_factory=dict[str, tuple[str, ...]])
    """Tenant = questions that its empty page offers."""
    unwritten: tuple[str, ...] = ()
    """Tenants of this machine whose questions no live model answers: the page says how to give them one."""
    hosts: tuple[str, ...] = ()
    """Origins whose pages may hold the console in a frame and talk to it: they may frame it, and call."""
    originals: dict[str, str] = Field(default_factory=dict[str, str])
    """Begin of an original's address = where the page opens it instead."""


class ReadinessCheck(PublicModel):
    name: str
    tenant: str | None
    ok: bool
    detail: str


class DeployedVersions(PublicModel):
    """What the deployment gave this task; nothing where nobody said so."""

    release: str = ""
    model_stamp: str = ""
    schema_stamp: str = ""


class Readiness(PublicModel):
    """``GET /readyz`` on the operators' listener: 200 when every check is ok, else 503."""

    ready: bool
    checked_at: datetime
    checks: tuple[ReadinessCheck, ...]
    deployed: DeployedVersions = DeployedVersions()


class UrlCitation(PublicModel):
    start_index: int
    end_index: int
    url: str
    """The original at its publisher; where there is none, the path on this service of the stored text."""
    title: str


class ChatAnnotation(PublicModel):
    type: Literal["url_citation"] = "url_citation"
    url_citation: UrlCitation


class ChatAnswer(answers.AnswerEnding):
    """What OpenAI's schema has no place for. In a stream it comes with the first chunk, without an ending,
    and with the chunk that has the finish reason, with all of it."""

    answer_id: str
    conversation_id: str
    index_version: str
    red_flags: tuple[answers.RedFlag, ...] = ()
    """Emergencies that the message may be about; the content begins with them."""
    unchecked_language: str | None = None
    """ISO 639-1 code of the language, where red flags are not checked in it; the content says so."""
    recorded_model: str | None = None
    """Where a recording plays in place of a model: which model was recorded, and when."""
    section: answers.AlsoPossible | None = None
    """The best document's best section, beside a written answer."""
    offered: answers.OfferedAnswer | None = None
    """An approved answer to a near question; the content does not have it."""
    finish_reason: answers.FinishReason | None = None
    """How the answer really ended: the choice says ``stop`` also where there was no evidence."""
    reason: str | None = None
    recorded: bool = True
    """False while the store of answers fails: the record follows."""
    sources: tuple[answers.Source, ...] = ()
    sentences: tuple[answers.Sentence, ...] = ()
    """The marks of each sentence: its citations, and whether the sources support it. ``start`` and ``end``
    are offsets of the content, a leading notice included."""
    elements: tuple[Element, ...] = ()
    """The live elements of the content, each as it ended; their offsets too are of the content."""
    timings_ms: dict[str, float] = Field(default_factory=dict[str, float])


ChatFinishReason = Literal["stop", "length", "content_filter"]


class ChatUsage(PublicModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletionMessage(PublicModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    annotations: tuple[ChatAnnotation, ...]


class ChatChoice(PublicModel):
    index: Literal[0] = 0
    message: ChatCompletionMessage
    finish_reason: ChatFinishReason
    logprobs: None = None


class ChatCompletion(PublicModel):
    """The whole answer. ``id`` is its answer_id."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    """Unix time in seconds."""
    model: str
    choices: tuple[ChatChoice]
    usage: ChatUsage | None = Field(default=None, exclude_if=lambda usage: usage is None)
    """Left out where no model was asked: a quote costs no tokens."""
    answer: ChatAnswer


class ChatModel(PublicModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    """Unix time in seconds, of the request."""
    owned_by: str
    """The tenant."""


class ChatModels(PublicModel):
    object: Literal["list"] = "list"
    data: tuple[ChatModel, ...]


class ChatDelta(PublicModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    annotations: tuple[ChatAnnotation, ...] | None = None


class ChatChunkChoice(PublicModel):
    index: Literal[0] = 0
    delta: ChatDelta
    finish_reason: ChatFinishReason | None = None
    logprobs: None = None


class ChatCompletionChunk(PublicModel):
    """The data of one server-sent event; after the last one comes ``[DONE]``."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[ChatChunkChoice, ...]
    """One; none in the chunk that has the usage."""
    usage: ChatUsage | None = None
    answer: ChatAnswer | None = None


class ChatErrorBody(PublicModel):
    message: str
    type: str
    code: str
    """One of our own, as in problem bodies."""
    param: str | None
    retryable: bool


class ChatError(PublicModel):
    """Body of an error status, and data of the event that ends a stream which broke off."""

    error: ChatErrorBody
