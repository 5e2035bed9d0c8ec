"""Who saw a document and what an agent saw, from what is recorded as it happens."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Protocol

from assistant.answering.ports import AnswerRecords
from assistant.domain.answers import AccessEntry, AccessPage, AccessQuery
from assistant.domain.clock import Clock
from assistant.domain.errors import InvalidRequestError, NotFoundError

MOST_ENTRIES = 500
"""Of one page."""
_PLACE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00)(#[!-~]{1,120})?")


class KnownDocuments(Protocol):
    """Says which documents there are, or were before they were withdrawn."""

    async def get(self, document_id: str) -> object | None:
        """Return something of a document that was ever brought. Raises DependencyError."""
        ...


class Audit:
    """Lists who saw what. The audit itself is recorded first."""

    def __init__(self, *, records: AnswerRecords, documents: KnownDocuments, clock: Clock) -> None:
        self._records = records
        self._documents = documents
        self._clock = clock

    async def page(self, query: AccessQuery, *, auditor: str) -> AccessPage:
        """Return a page of the entries, oldest first; go on while it has a ``next_after``.

        Raises InvalidRequestError, NotFoundError (a document that has neither a state nor an access),
        RecordsUnavailableError, DependencyError.
        """
        _check(query)
        asked = {"document": query.document_id, "agent": query.agent}
        subject = " ".join(f"{name}:{value}" for name, value in asked.items() if value is not None)
        entry = AccessEntry(at=self._clock.now(), agent=auditor, kind="audit", subject_id=subject)
        await self._records.record_access(entry)
        page = await self._records.list_accesses(query)
        if query.document_id is not None and query.after is None and page == AccessPage((), None):
            await self._check_known(query.document_id)
        return page

    async def _check_known(self, document_id: str) -> None:
        if await self._documents.get(document_id) is None:
            raise NotFoundError(
                f"There is no document {document_id}, and nobody saw one of that id in the time asked for."
            )


def _check(query: AccessQuery) -> None:
    if query.document_id is None and query.agent is None:
        raise InvalidRequestError("Say of which document_id or which agent the audit is; both are missing.")
    if query.since >= query.until:
        raise InvalidRequestError(f"since ({query.since.isoformat()}) must be before until.")
    if not 1 <= query.limit <= MOST_ENTRIES:
        raise InvalidRequestError(f"limit is {query.limit}; it must be 1 to {MOST_ENTRIES}.")
    if query.after is not None and not _is_place(query.after):
        raise InvalidRequestError("after must be the next_after of a page of this audit.")


def _is_place(after: str) -> bool:
    matched = _PLACE.fullmatch(after)
    try:
        return matched is not None and bool(datetime.fromisoformat(matched[1]))
    except ValueError:
        return False
