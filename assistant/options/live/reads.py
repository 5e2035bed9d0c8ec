"""Reads a live element of a stored answer again, and lists who read which live data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace

from assistant.answer.elements import element_of, read_element, system_of
from assistant.answer.live_macs import LiveMacs
from assistant.answer.services import TenantServices
from assistant.domain.answers import AnswerRecord
from assistant.domain.audit import AccessEntry, LiveRead, LiveReadPage, LiveReadQuery
from assistant.domain.clock import Clock, Deadline
from assistant.domain.identity import CareContext, Identity
from assistant.domain.live import Caller, Element, ElementProblem, ElementType, ElementUse, LiveReadError
from assistant.options.live.stored import StoredLiveReads
from assistant.service.audit import check_page, named_subject
from assistant.service.stored import not_found, own_answer, take_place
from assistant.stores.records import StoredRecords

_OF_ANOTHER_CONVERSATION = (
    "This answer is of another conversation. Ask again from the customer's conversation."
)


@dataclass(frozen=True, slots=True)
class ReadElementAgain:
    """Reads one live element of a recorded answer again, only for the agent who asked.

    ``as_asked`` returns the caller with the question as it was put to systems: what was filled in from the
    record, such as the number of the item that it means.
    """

    services: TenantServices
    _: KW_ONLY
    reads: StoredLiveReads
    as_asked: Callable[[Caller, AnswerRecord], Caller]

    async def read(
        self, answer_id: str, element_id: str, *, identity: Identity, context: CareContext | None
    ) -> Element:
        """Return the element with what the system says now, or its refusal. The record does not change.

        ``context``: of this call. It must be of the answer's customer; another one's is refused, which is
        recorded. Raises NotFoundError (no such answer or element, another agent's, or one that no connector
        offers any more), ConflictError (read again too often), RecordsUnavailableError.
        """
        record = await own_answer(self.services, answer_id, identity=identity)
        use = next((element for element in record.elements if element.id == element_id), None)
        live = self.services.live.elements
        element_type = live.types().get(use.name) if use is not None and live is not None else None
        if use is None or live is None or element_type is None:
            raise not_found()
        await take_place(self.services, answer_id, "rereads", self.services.new_id())
        subject = self.services.subject_of(context)
        if use.subject != subject or (context is not None and subject is None):
            await self._record_refusal(use, element_type, answer_id, agent=identity.agent, asked_for=subject)
            outcome = LiveReadError(ElementProblem.NOT_ALLOWED, _OF_ANOTHER_CONVERSATION)
            return element_of(element_type, element_id=use.id, display=use.display, outcome=outcome)
        outcome = await read_element(
            live,
            element_type,
            self.as_asked(Caller(identity, context, record.question, answer_id), record),
            deadline=Deadline.after(element_type.limit_s, clock=self.services.clock),
        )
        element = element_of(element_type, element_id=use.id, display=use.display, outcome=outcome)
        return LiveMacs(self.services, answer_id, identity.agent).with_texts(element)

    async def _record_refusal(
        self, use: ElementUse, kind: ElementType, answer_id: str, *, agent: str, asked_for: str | None
    ) -> None:
        """Record a refused read under the answer's customer, or if it has none under that of the call.

        ``asked_for``: pseudonym of the call's customer.
        """
        read = LiveRead(
            read_id=self.services.new_id(),
            at=self.services.clock.now(),
            agent=agent,
            answer_id=answer_id,
            system=system_of(use.name),
            operation=kind.operation,
            subject=use.subject or asked_for,
            outcome=ElementProblem.NOT_ALLOWED.value,
        )
        await self.reads.record(read)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLiveReads:
    """Lists who read which live data. Each audit is recorded itself, before its page is read.

    ``pseudonym`` returns the keyed hash that stands for a customer's id in the record of reads, and in the
    audit's own entry.
    """

    records: StoredRecords
    reads: StoredLiveReads
    pseudonym: Callable[[str], str]
    clock: Clock

    async def page(self, query: LiveReadQuery, *, customer: str | None = None, auditor: str) -> LiveReadPage:
        """Return a page of the reads, oldest first; there are more while it has a ``next_after``.

        ``customer``: only reads of this customer's data; the id that the care application signs. Its
        pseudonym replaces the query's ``subject``. Raises InvalidRequestError, RecordsUnavailableError.
        """
        check_page(query)
        if customer is not None:
            query = replace(query, subject=self.pseudonym(customer))
        subject = f"live-reads {named_subject(agent=query.agent, customer=query.subject)}".strip()
        entry = AccessEntry(at=self.clock.now(), agent=auditor, kind="audit", subject_id=subject)
        await self.records.record_access(entry)
        return await self.reads.list(query)
