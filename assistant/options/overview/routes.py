"""``GET /v1/overview``: the numbers of a period, as JSON, or one table of them as CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import InvalidRequestError
from assistant.domain.identity import Identity, Role
from assistant.domain.public import csv_line
from assistant.options.overview.counting import CountedDay, Counts
from assistant.options.overview.overview import MOST_DAYS, Overview
from assistant.service import wire as bodies
from assistant.service.errors import declared
from assistant.service.identity import Caller, TenantOf, require_role
from assistant.service.streams import stores_within

router = APIRouter(tags=["overview"])
_TIMEOUT_S = 20.0
_DAYS = 30
"""Days of a period by default."""
_MOST_DOCUMENTS = 100
"""Documents that a response has."""
_MOST_STATUSES = 2_000
"""Documents of a period whose state is read: those on which the most answers rest."""
_YEAR_DAYS = 365.25
_NO_SOURCE = "documents without a source"
"""Row of the documents that say of no source."""
_ONE_TABLE: dict[str, Any] = {
    "description": "With ``Accept: text/csv`` the one table",
    "content": {"text/csv": {"schema": {"type": "string"}}},
}


@router.get("/v1/overview", responses=declared()["responses"] | {200: _ONE_TABLE})
async def read_overview(
    request: Request,
    tenant: TenantOf,
    caller: Caller,
    first: Annotated[date | None, Query(alias="from")] = None,
    last: Annotated[date | None, Query(alias="to")] = None,
    table: bodies.OverviewTable = "days",
) -> bodies.Overview:
    """Return numbers of questions and answers, by day, source, desk, group of agents and document; by default
    of the last 30 days. Managers and auditors may call.

    No number is of a group of agents below ``[overview] smallest_group``. Documents that the caller may not
    read are counted, and not named. Days are UTC's; at most 92.
    """
    require_role(caller, Role.MANAGER, Role.AUDITOR)
    overview = tenant.part(Overview)
    last = last or overview.today()
    first = first or last - timedelta(days=_DAYS - 1)
    if not 0 <= (last - first).days < MOST_DAYS:
        raise InvalidRequestError(f"from {first} to {last} are no 1 to {MOST_DAYS} days. Ask for fewer.")
    async with stores_within(_TIMEOUT_S, stores="The stores of records"):
        shown = await _overview(overview, first, last, caller)
    if "text/csv" not in request.headers.get("accept", ""):
        return shown
    rows = (shown.total,) if table == "total" else getattr(shown, table)
    name = f"{table}-{first}-{last}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(_csv(rows), media_type="text/csv", headers=headers)  # pyright: ignore[reportReturnType]


async def _overview(overview: Overview, first: date, last: date, caller: Identity) -> bodies.Overview:
    days = await overview.between(first, last)
    today, total = overview.today(), Counter[str]()
    for day in days:
        total.update(day.total)
    documents, others = await _documents(overview, _summed(day.documents for day in days), caller)
    wanted = (min(last, today) - first).days + 1
    return bodies.Overview(
        first=first,
        last=last,
        counted_at=days[-1].counted_at if days else None,
        smallest_group=overview.smallest_group,
        small_days=sum(day.is_small and day.total.get("questions", 0) > 0 for day in days),
        uncounted_days=max(0, wanted - len(days)),
        total=bodies.OverviewCounts(**total),
        days=tuple(bodies.OverviewDay(day=day.day, **day.total) for day in days),
        sources=_rows(days, "sources"),
        desks=_rows(days, "desks"),
        groups=_rows(days, "groups"),
        documents=documents,
        others=others,
    )


def _summed(tables: Iterable[Mapping[str, Counts]]) -> dict[str, Counter[str]]:
    """Return one table: the numbers of rows with the same name added."""
    summed: dict[str, Counter[str]] = {}
    for table in tables:
        for name, counts in table.items():
            summed.setdefault(name, Counter()).update(counts)
    return summed


def _rows(days: Sequence[CountedDay], table: str) -> tuple[bodies.OverviewRow, ...]:
    """Return the rows of a table of ``CountedDay`` over all days, those with the most questions first."""
    summed = _summed(getattr(day, table) for day in days)
    ranked = sorted(summed.items(), key=lambda row: (-row[1]["questions"], row[0]))
    return tuple(bodies.OverviewRow(name=name or _NO_SOURCE, **counts) for name, counts in ranked)


async def _documents(
    overview: Overview, documents: Mapping[str, Counter[str]], caller: Identity
) -> tuple[tuple[bodies.OverviewDocument, ...], int]:
    """Return the documents that the caller may read, the greatest damage first (``_document``), and the
    number of all others: not readable, withdrawn, or beyond ``_MOST_DOCUMENTS``."""
    ranked = sorted(
        filter(None, documents), key=lambda row: (-documents[row]["questions"], -documents[row]["teachable"])
    )
    states = await overview.states.get_many(ranked[:_MOST_STATUSES])
    today = overview.today()
    shown = [
        _document(status, documents[document_id], today)
        for document_id, status in states.items()
        if status.state is not DocumentState.WITHDRAWN and _may_read(status, caller.labels)
    ]
    shown.sort(key=lambda row: (-row.damage, -row.answers, -row.teachable, row.document_id))
    kept = tuple(shown[:_MOST_DOCUMENTS])
    return kept, len(documents) - len(kept)


def _may_read(status: DocumentStatus, held: frozenset[str]) -> bool:
    """Return whether a holder of these labels may read both the newest and the live content."""
    return all(not labels or not held.isdisjoint(labels) for labels in (status.labels, status.live_labels))


def _document(status: DocumentStatus, counts: Counts, today: date) -> bodies.OverviewDocument:
    """Return a document's row. Damage = answers x edited answers x age in years: which document to review
    first."""
    age_days = max(0, (today - (status.effective_date or status.received_at.date())).days)
    answers, edited = counts.get("questions", 0), counts.get("sent_edited", 0)
    return bodies.OverviewDocument(
        document_id=status.document_id,
        title=status.title,
        answers=answers,
        edited=edited,
        marked_bad=counts.get("marked_bad", 0),
        teachable=counts.get("teachable", 0),
        age_days=age_days,
        damage=round(answers * edited * age_days / _YEAR_DAYS, 2),
        review_after=status.review_after,
        is_due=status.review_after is not None and status.review_after <= today,
    )


def _csv(rows: Sequence[BaseModel]) -> str:
    """Return rows as CSV: a line of names, with those of the row itself, as its day, before the numbers."""
    if not rows:
        return ""
    names = list(type(rows[0]).model_fields)
    row_names = [name for name in names if name not in bodies.OverviewCounts.model_fields]
    order = [*row_names, *(name for name in names if name not in row_names)]
    return "".join([csv_line(order), *(csv_line(getattr(row, name) for name in order) for row in rows)])
