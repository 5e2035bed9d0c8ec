"""Reads stored answers, and appends verdicts, sent texts and acts to them.

An answer of another agent looks the same as one that does not exist: NotFoundError for both. Before anybody
reads another agent's answer, an access entry says so (``entry_of_read``).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Literal

from assistant.answer.elements import kept_element
from assistant.answer.excerpts import fill_record, gone_from, read_excerpts, source_of
from assistant.answer.live_macs import LiveMacs
from assistant.answer.services import TenantServices
from assistant.domain.answers import (
    MOST_SENT_CHARACTERS,
    Act,
    AgentAct,
    AnswerRecord,
    LiveSpan,
    Sent,
    Source,
    StoredAct,
    StoredAnswer,
    StoredSent,
    StoredVerdict,
    Verdict,
)
from assistant.domain.audit import AccessEntry
from assistant.domain.errors import ConflictError, ContextRefusedError, InvalidRequestError, NotFoundError
from assistant.domain.identity import CareContext, ContextToken, Identity, Role
from assistant.domain.live import ElementUse, Reply
from assistant.stores.ports import ValuesOfSent
from assistant.stores.records import PlaceKind
from assistant.text.markup import label_of

_Kind = Literal["answer", "conversation"]
"""What an access entry is about."""
_CONVERSATION_LIMIT = 50
_KEY = "#key"
"""After a ``send_id``, which has no "#": the name under which the key of a delivered text is kept."""
MOST: Mapping[PlaceKind, int] = {"verdicts": 50, "sends": 50, "acts": 500, "rereads": 200}
"""Most records of one answer: verdicts, sent texts, acts, and live elements that are read again. No agent
needs more; a program that never stops would fill the store, and call live systems."""


class ReadAnswers:
    """Reads answers: agents their own, auditors any. A read of another agent's is recorded before it happens.

    | method                | reader     | access labels              | live values of sent texts |
    | ``one``, conversation | the agent  | the reader's               | while they are kept       |
    | ``one``, conversation | an auditor | theirs and the question's  | while they are kept       |
    | ``for_review``        | a reviewer | the reader's               | labels in their place     |
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def one(self, answer_id: str, *, identity: Identity) -> StoredAnswer:
        """Return one answer.

        Raises NotFoundError (unknown, or another agent's: one path for both), RecordsUnavailableError."""
        record = await self._services.records.get_answer(answer_id)
        [reading] = await self._read("answer", answer_id, [record] if record else [], identity=identity)
        return reading

    async def for_review(self, answer_id: str, *, identity: Identity) -> StoredAnswer:
        """Return one answer for the review desk: under the reader's own labels alone, and recorded first.
        What was sent has labels in place of live values: the desk improves answers, and needs nobody's data.
        The caller has checked that the reader may review.

        Raises NotFoundError (unknown, or asked under a label that the reader lacks), RecordsUnavailableError,
        DependencyError.
        """
        record = await self._services.records.get_answer(answer_id)
        if record is None or not identity.labels.issuperset(record.labels):
            raise not_found()
        await self._record_access("answer", answer_id, [record], identity=identity)
        return await self._reading(record, identity=identity, labels=identity.labels, with_values=False)

    async def conversation(self, conversation_id: str, *, identity: Identity) -> list[StoredAnswer]:
        """Return a conversation's newest 50 answers, oldest first. Raises as ``one`` does."""
        records = await self._services.records.list_conversation(conversation_id, limit=_CONVERSATION_LIMIT)
        return await self._read("conversation", conversation_id, records, identity=identity)

    async def _read(
        self, kind: _Kind, subject_id: str, records: Sequence[AnswerRecord], *, identity: Identity
    ) -> list[StoredAnswer]:
        """Return the answers of these records, once the read is recorded. Raises NotFoundError where there
        are none, or one is another agent's and the reader is no auditor."""
        is_auditor = Role.AUDITOR in identity.roles
        if not records or not all(is_auditor or record.agent == identity.agent for record in records):
            raise not_found()
        await self._record_access(kind, subject_id, records, identity=identity)
        readings: list[StoredAnswer] = []
        for record in records:
            # An auditor sees what the agent saw: under the labels of the question too.
            is_own = record.agent == identity.agent
            labels = identity.labels if is_own else identity.labels.union(record.labels)
            readings.append(await self._reading(record, identity=identity, labels=labels, with_values=True))
        return readings

    async def _record_access(
        self, kind: _Kind, subject_id: str, records: Sequence[AnswerRecord], *, identity: Identity
    ) -> None:
        """Record who reads answers of other agents; nothing of an agent's own."""
        services, reader = self._services, identity.agent
        if any(record.agent != reader for record in records):
            entry = entry_of_read(kind, subject_id, records, reader=reader, at=services.clock.now())
            await services.records.record_access(entry)

    async def _reading(
        self, record: AnswerRecord, *, identity: Identity, labels: frozenset[str], with_values: bool
    ) -> StoredAnswer:
        """Return one answer as its reader may see it. ``labels``: access labels under which documents are
        read again; ``with_values``: whether sent texts get their live values back."""
        services = self._services
        shown = await read_excerpts(record.excerpts, services.documents.texts, labels=labels)
        verdicts = await services.records.list_verdicts(record.answer_id)
        sent = tuple(await services.records.list_sent(record.answer_id))
        if with_values:
            sent = await _with_values(services, record.answer_id, sent)
        return StoredAnswer(
            record=fill_record(record, shown),
            sources=self._sources(record, gone=gone_from(record, shown), identity=identity),
            verdicts=tuple(verdicts),
            sent=sent,
            elements=tuple(map(kept_element, record.elements)),
            checked=await services.records.check_of(record.answer_id),
        )

    def _sources(
        self, record: AnswerRecord, *, gone: frozenset[str], identity: Identity
    ) -> tuple[Source, ...]:
        """Return the record's sources. ``gone``: documents that the reader may no longer read."""
        links = self._services.documents.links
        return tuple(
            source_of(use, n=use.n, score=use.fused_score, links=links, identity=identity).model_copy(
                update={"withdrawn": use.document_id in gone}
            )
            for use in record.passages
        )


class AppendToAnswer:
    """Appends verdicts, sent texts and acts to an answer, for the agent who asked only. Auditors may not."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def verdict(self, answer_id: str, verdict: Verdict, *, identity: Identity) -> StoredVerdict:
        """Append a verdict and return it.

        Raises NotFoundError, ConflictError (same id, other content; too many), InvalidRequestError (a wrong
        citation that the answer does not have), RecordsUnavailableError.
        """
        record = await own_answer(self._services, answer_id, identity=identity)
        sources = {use.n for use in record.passages}
        if not sources.issuperset(verdict.wrong_citations):
            raise InvalidRequestError(
                f"wrong_citations names a source that the answer does not have; it has {len(sources)}."
            )
        await take_place(self._services, answer_id, "verdicts", verdict.verdict_id)
        return await self._services.records.append_verdict(answer_id, verdict, agent=identity.agent)

    async def sent(
        self,
        answer_id: str,
        sent: Sent,
        *,
        identity: Identity,
        guard: Callable[[], Awaitable[None]] | None = None,
        context: ContextToken | None = None,
        whose: CareContext | None = None,
    ) -> StoredSent:
        """Append what was sent, then deliver it where a system of the tenant takes replies. The record has
        labels in place of live values, which are kept apart and expire (``SentValues``). A repetition with
        the same id and the same text as delivered appends nothing, and delivers again.

        ``guard``: awaited before anything is written; raises where the text may not be sent (``GuardSent``).
        ``context``: passed on with the reply; ``whose``: the same, verified, is the question's. Raises
        NotFoundError, InvalidRequestError (a span of an element that the answer does not have, or without a
        right MAC), ContextRefusedError, ConflictError (same id, other text; too many),
        RecordsUnavailableError, ReplyNotDeliveredError (it is recorded).
        """
        services = self._services
        record = await own_answer(self._services, answer_id, identity=identity)
        if context is not None and (whose is None or not _is_of_question(whose, record)):
            raise ContextRefusedError(
                "The context is not the one that the question came with. Send the reply with that one."
            )
        if sent.reply_id is not None:
            reply = await services.records.get_answer(sent.reply_id)
            if reply is None or reply.reply_to != answer_id:
                raise InvalidRequestError("reply_id is of no reply to this answer.")
        labelled, values = without_values(sent, record)
        macs = LiveMacs(services, answer_id, identity.agent)
        signed = zip(sent.live, values, strict=True)
        if not all(macs.is_genuine(span.element_id, value, span.mac) for span, value in signed):
            raise InvalidRequestError(
                "live marks words that are no value of its element as the service sent it, or one that no "
                "longer counts: read the element again."
            )
        if guard is not None:
            await guard()
        await take_place(services, answer_id, "sends", sent.send_id)
        # The record first: an id that is used for another text is refused before any value but the
        # hash's key is kept.
        stored = await services.records.append_sent(
            answer_id,
            labelled,
            agent=identity.agent,
            delivered_hash=await _delivered_hash(services, answer_id, sent),
        )
        kept = await _keep_values(services, stored, values)
        if services.live.replies is not None:
            reply = Reply(
                send_id=sent.send_id,
                answer_id=answer_id,
                conversation_id=record.conversation_id,
                agent=identity.agent,
                at=stored.at,
                text=sent.text,
                context=context,
            )
            await services.live.replies.deliver(reply)
        return kept

    async def act(self, answer_id: str, act: Act, *, identity: Identity) -> StoredAct:
        """Append what the agent did with the answer.

        Raises NotFoundError, ConflictError (same id, other content; too many), InvalidRequestError (an opened
        source that the answer does not have), RecordsUnavailableError.
        """
        record = await own_answer(self._services, answer_id, identity=identity)
        if act.kind is AgentAct.OPENED_SOURCE:
            if act.n not in {use.n for use in record.passages}:
                raise InvalidRequestError(
                    f"n is {act.n}; an opened source is one of the {len(record.passages)} of the answer."
                )
        elif act.n is not None:
            raise InvalidRequestError(f"n is for opened_source only; leave it out of {act.kind.value}.")
        await take_place(self._services, answer_id, "acts", act.act_id)
        return await self._services.records.append_act(answer_id, act, agent=identity.agent)


async def take_place(services: TenantServices, answer_id: str, kind: PlaceKind, name: str) -> None:
    """Count one more record of a kind for an answer, before it is written. ``name``: its id; a repetition of
    one that was counted is not counted again.

    Raises ConflictError where the answer has as many as ``MOST`` says, RecordsUnavailableError.
    """
    most = MOST[kind]
    if not await services.records.take_place(answer_id, kind, name, most=most):
        raise ConflictError(f"This answer has {most} {kind} already, the most of one. Ask anew.")


def _is_of_question(context: CareContext, record: AnswerRecord) -> bool:
    """Return whether a context is the one of a record's question: the same token, customer and chat."""
    chat = next(iter(context.ids.get("chat", ())), None)
    asked_with = record.context_id, record.customer, record.chat
    return context.token_id is not None and (context.token_id, context.customer, chat) == asked_with


async def own_answer(services: TenantServices, answer_id: str, *, identity: Identity) -> AnswerRecord:
    """Return the record of the caller's answer. Raises NotFoundError (unknown, or another agent's),
    RecordsUnavailableError."""
    record = await services.records.get_answer(answer_id)
    if record is None or record.agent != identity.agent:
        raise not_found()
    return record


def entry_of_read(
    kind: _Kind, subject_id: str, records: Sequence[AnswerRecord], *, reader: str, at: datetime
) -> AccessEntry:
    """Return the access entry for reading another agent's answers, with the documents that they show. The
    caller records it before it returns the answers."""
    sights = [record.sight() for record in records]
    return AccessEntry(
        at=at,
        agent=reader,
        kind=kind,
        subject_id=subject_id,
        documents=tuple(dict.fromkeys(name for sight in sights for name in sight.documents)),
        quoted=tuple(dict.fromkeys(name for sight in sights for name in sight.quoted)),
    )


def not_found() -> NotFoundError:
    return NotFoundError("There is no such thing, or it is not yours.")


# Texts that were sent to a patient. Their live values are kept apart from the append-only record, for
# ``records.live_values_days`` of the tenant file, and are put back where a text is read in this time


async def _keep_values(services: TenantServices, stored: StoredSent, values: Sequence[str]) -> StoredSent:
    """Keep the values of a recorded text; return the text with them, or with labels where none is kept.

    A repeat of the request after the values expired keeps nothing. Raises RecordsUnavailableError.
    """
    until = _values_until(services, stored)
    if not values or until is None or services.live.sent_values is None:
        return stored
    kept = ValuesOfSent(stored.answer_id, stored.sent.send_id, tuple(values), until)
    return _joined(services, stored, await services.live.sent_values.keep(kept))


async def _delivered_hash(services: TenantServices, answer_id: str, sent: Sent) -> str:
    """Return the HMAC-SHA256 (hex) of a text as it is delivered. The key is empty for a text without live
    values; else it is random, and expires with them, so that no label can be guessed from the hash. It lives
    for a day at least: a reply may be delivered again. Raises RecordsUnavailableError."""
    key = ""
    if sent.live and services.live.sent_values is not None:
        until = services.clock.now() + timedelta(days=services.tenant.live_values_days or 1)
        made = ValuesOfSent(answer_id, f"{sent.send_id}{_KEY}", (token_hex(32),), until)
        (key,) = (await services.live.sent_values.keep(made)).values
    return hmac.new(key.encode(), sent.text.encode(), hashlib.sha256).hexdigest()


async def _with_values(
    services: TenantServices, answer_id: str, stored: Sequence[StoredSent]
) -> tuple[StoredSent, ...]:
    """Return an answer's sent texts with the values that may still be read: those that have not expired,
    neither by what was written with them nor by the tenant file of today. Raises RecordsUnavailableError."""
    live = {
        sending.sent.send_id for sending in stored if sending.sent.live and _values_until(services, sending)
    }
    if not live or services.live.sent_values is None:
        return tuple(stored)
    values = await services.live.sent_values.of(answer_id)
    return tuple(
        _joined(services, sending, values.get(sending.sent.send_id))
        if sending.sent.send_id in live
        else sending
        for sending in stored
    )


def _values_until(services: TenantServices, stored: StoredSent) -> datetime | None:
    """Return until when the tenant file of today keeps the values of a text; None where that is over, or it
    keeps none."""
    days = services.tenant.live_values_days
    until = (stored.at + timedelta(days=days)).replace(microsecond=0)
    return until if days and until > services.clock.now() else None


def without_values(sent: Sent, record: AnswerRecord) -> tuple[Sent, list[str]]:
    """Return a sent text with labels in place of its live values, and the values in order.

    Example: "It is Shipped." with one live span gives "It is [order status]." and ["Shipped"].

    Raises InvalidRequestError for a span of an element that the answer does not have, and for a text that is
    too long with labels.
    """
    uses = {use.id: use for use in record.elements}
    if unknown := [span.element_id for span in sent.live if span.element_id not in uses]:
        raise InvalidRequestError(
            f"live names {unknown[0]}, which the answer does not have; its elements: "
            f"{', '.join(uses) or 'none'}."
        )
    labelled = _replaced(sent, [_label(uses[span.element_id]) for span in sent.live])
    if len(labelled.text) > MOST_SENT_CHARACTERS:
        raise InvalidRequestError(
            f"With labels in place of live values the text has {len(labelled.text)} characters; shorten it "
            f"to {MOST_SENT_CHARACTERS}."
        )
    return labelled, [sent.text[span.start : span.end] for span in sent.live]


def _joined(services: TenantServices, stored: StoredSent, kept: ValuesOfSent | None) -> StoredSent:
    """Return a stored text with its values in place of the labels, signed for its agent, who may send them
    again; unchanged where ``kept`` is None, or has not as many values as the text has spans."""
    if kept is None or len(kept.values) != len(stored.sent.live):
        return stored
    macs, sent = LiveMacs(services, stored.answer_id, stored.agent), _replaced(stored.sent, kept.values)
    live = tuple(
        span.model_copy(update={"mac": macs.signed(span.element_id, value).mac})
        for span, value in zip(sent.live, kept.values, strict=True)
    )
    sent = sent.model_copy(update={"live": live})
    return stored.model_copy(update={"sent": sent, "live_until": kept.expires_at})


def _label(use: ElementUse) -> str:
    return label_of(use.title or use.name)


def _replaced(sent: Sent, words: Sequence[str]) -> Sent:
    """Return a text with these words in place of its live spans, one for each, and the spans at their new
    places, without MACs."""
    parts: list[str] = []
    spans: list[LiveSpan] = []
    at = length = 0
    for span, word in zip(sent.live, words, strict=True):
        before = sent.text[at : span.start]
        start = length + len(before)
        length = start + len(word)
        parts += (before, word)
        spans.append(span.model_copy(update={"start": start, "end": length, "mac": ""}))
        at = span.end
    return sent.model_copy(update={"text": "".join((*parts, sent.text[at:])), "live": tuple(spans)})
