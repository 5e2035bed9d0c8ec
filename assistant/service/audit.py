"""Lists who saw which documents, by document or by agent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from assistant.domain.audit import AccessEntry, AccessPage, AccessQuery, LiveReadQuery
from assistant.domain.clock import Clock
from assistant.domain.errors import InvalidRequestError, NotFoundError
from assistant.stores.ports import LiveDocuments
from assistant.stores.records import StoredRecords

MOST_ENTRIES = 500
"""Entries of one page."""
_PAGE_TOKEN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00)(#[!-~]{1,120})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Lists who saw what, by document or agent. Each audit is an access itself, recorded before its page is
    read.

    Example::

        page = await audit.page(query, auditor="ada")  # query: AccessQuery(document_id="refill", …)
        page.entries[0].agent, page.next_after  # "bob", None: no more pages
    """

    records: StoredRecords
    documents: LiveDocuments
    clock: Clock

    async def page(self, query: AccessQuery, *, auditor: str) -> AccessPage:
        """Return a page of the entries, oldest first; there are more while it has a ``next_after``, which is
        the next query's ``after``.

        Raises InvalidRequestError, NotFoundError (a document with neither a state nor an access),
        RecordsUnavailableError, DependencyError.
        """
        if query.document_id is None and query.agent is None:
            raise InvalidRequestError(
                "Say of which document_id or which agent the audit is; both are missing."
            )
        check_page(query)
        subject = named_subject(document=query.document_id, agent=query.agent)
        entry = AccessEntry(at=self.clock.now(), agent=auditor, kind="audit", subject_id=subject)
        await self.records.record_access(entry)
        page = await self.records.list_accesses(query)
        document_id = query.document_id
        if document_id is None or query.after is not None or page != AccessPage((), None):
            return page
        if not await self.documents.get_many([document_id]):
            raise NotFoundError(
                f"There is no document {document_id}, and nobody saw one of that id in the time asked for."
            )
        return page


def named_subject(**asked: str | None) -> str:
    """Return what an audit asks for, as its access entry names it: "document:refill agent:bob"."""
    return " ".join(f"{name}:{value}" for name, value in asked.items() if value is not None)


def check_page(query: AccessQuery | LiveReadQuery) -> None:
    """Raise InvalidRequestError where times or page token of a query are wrong."""
    if query.since >= query.until:
        raise InvalidRequestError(f"since ({query.since.isoformat()}) must be before until.")
    if query.after is not None and not _is_page_token(query.after):
        raise InvalidRequestError("after must be the next_after of a page of this audit.")


def _is_page_token(after: str) -> bool:
    matched = _PAGE_TOKEN.fullmatch(after)
    try:
        return matched is not None and bool(datetime.fromisoformat(matched[1]))
    except ValueError:
        return False
