"""One tenant's services for answering: its adapters."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from secrets import token_bytes
from zoneinfo import ZoneInfo

from assistant.domain.answers import source_kind
from assistant.domain.clock import Clock
from assistant.domain.errors import ConfigurationError
from assistant.domain.identity import CareContext
from assistant.domain.live import LiveElements, ReplyDelivery
from assistant.models.artifacts import ServedModel
from assistant.stores.index.watch import IndexWatch
from assistant.stores.ports import (
    AnswerGenerator,
    ChatMessage,
    DocumentLinks,
    DocumentTexts,
    LiveDesk,
    LiveDocuments,
    PassageSearch,
    SentValues,
    TextEmbedder,
    TokenCounter,
)
from assistant.stores.records import StoredRecords
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language
from assistant.text.values import counted_days


def new_id() -> str:
    """Return an id that nobody can guess: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class AnswerWriter:
    """What writes a tenant's answers."""

    generator: AnswerGenerator
    model: ServedModel
    token_counter: TokenCounter
    answers: Callable[[Sequence[ChatMessage]], bool] = lambda _: True
    """Whether it can answer these messages: a model always can, a recording only its own prompts."""


@dataclass(frozen=True, slots=True)
class CitedDocuments:
    """The documents that answers cite."""

    texts: DocumentTexts
    states: LiveDocuments
    links: DocumentLinks


def _named_by_nobody(_customer: str) -> str:
    """Raise: the pseudonym of a tenant without live systems, which takes no context."""
    raise ConfigurationError("A context was taken, and nothing here reads a customer's data.")


@dataclass(frozen=True, slots=True)
class LiveData:
    """What a tenant's live systems offer."""

    elements: LiveElements | None = None
    """None where the tenant has no live system."""
    pseudonym: Callable[[str], str] = _named_by_nobody
    """Returns a customer's keyed pseudonym, as in the record of live reads."""
    sent_values: SentValues | None = None
    """Keeps the live values of sent texts; None: they are not kept."""
    replies: ReplyDelivery | None = None
    """None: what an agent sends is recorded, and not delivered."""
    mac_key: bytes = field(default_factory=partial(token_bytes, 32), repr=False)
    """Key of the codes of live values (``live_macs``), the same in all tasks. Made anew only where no system
    is read, so that nothing is signed."""


@dataclass(frozen=True, slots=True)
class TenantServices:
    """One tenant's adapters, each bound to that tenant when it was made. Use cases receive only this."""

    tenant: TenantConfig
    embedder: TextEmbedder
    search: PassageSearch
    index_watch: IndexWatch
    writer: AnswerWriter
    records: StoredRecords
    documents: CitedDocuments
    clock: Clock
    live: LiveData = LiveData()
    revisions: LiveDesk | None = None
    """The review desk: glossary entries, released routers, approved answers; None: there is none."""
    new_id: Callable[[], str] = new_id
    """Makes answer and conversation ids; a test may make them countable."""

    def subject_of(self, context: CareContext | None) -> str | None:
        """Return what a record keeps of whose conversation it was: a pseudonym; None without a context."""
        return None if context is None else self.live.pseudonym(context.customer)

    def sources_of(self, document_ids: Iterable[str]) -> frozenset[str]:
        """Return the names of the sources of these documents; approved answers have none."""
        ids = (document_id for document_id in document_ids if source_kind(document_id) != "approved")
        entries = (self.tenant.source_of(document_id) for document_id in ids)
        return frozenset(entry.name for entry in entries if entry is not None)

    def today(self, at: datetime | None) -> date | None:
        """Return the day on which a message was written, from which days are counted; None where ``at`` is
        None.

        The day is that of the time zone of ``at``; where this is UTC, of the tenant file's ``[power]``.
        """
        if at is None:
            return None
        if at.utcoffset() == timedelta(0) and (power := self.tenant.power) is not None:
            at = at.astimezone(ZoneInfo(power.time_zone))
        return at.date()

    def counted_days(self, text: str, lines: Sequence[str], *, at: datetime | None) -> tuple[str, ...]:
        """Return the days that ``values.counted_days`` counts for a message of ``at``, if any."""
        if (today := self.today(at)) is None:
            return ()
        days = counted_days(text, lines, today=today, language=language(self.tenant.language))
        return () if days is None else (days,)

    @property
    def context_tokens(self) -> int:
        """Tokens of a prompt and its answer together."""
        return self.tenant.generation.context_tokens

    @property
    def writes_answers(self) -> bool:
        """Whether a model writes this tenant's answers; otherwise they are quoted."""
        return self.writer.model.writes_answers and self.tenant.answers.mode == "auto"

    @property
    def checks_sentences(self) -> bool:
        """Whether a model checks each sentence of a written answer after it was shown."""
        return self.writes_answers and self.writer.model.checks
