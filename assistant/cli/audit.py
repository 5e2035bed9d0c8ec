"""``assistant audit``: who saw a document, or what an agent saw, here or at a service elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from rich.text import Text

from assistant.answering.stored import MOST_ENTRIES, Audit
from assistant.cli.terminal import GlobalOptions, Terminal, cli_reader, plain, table
from assistant.client import AssistantClient
from assistant.domain.answers import AccessEntry, AccessPage, AccessQuery
from assistant.domain.clock import SystemClock
from assistant.domain.errors import InvalidRequestError

LOOKS_BACK = timedelta(days=30)
_DID = {
    "asked": "was given an answer",
    "answer": "read an answer",
    "conversation": "read a conversation",
    "document": "read the document",
    "search": "searched",
    "verdicts": "read verdicts",
    "audit": "asked for an audit",
    "widening": "was refused to widen its labels",
    "desk": "read questions at the review desk",
}
Pages = Callable[[AccessQuery], Awaitable[AccessPage]]


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """The options of the command line."""

    document_id: str | None
    agent: str | None
    since: str | None
    until: str | None
    after: str | None
    limit: int | None
    """Entries at most; all when None."""
    service_url: str | None

    def query(self, *, now: datetime) -> AccessQuery:
        """Return the first page's query. Raises InvalidRequestError."""
        until = now if self.until is None else _instant("--to", self.until, day_ends=True)
        since = until - LOOKS_BACK if self.since is None else _instant("--from", self.since)
        most = MOST_ENTRIES if self.limit is None else min(self.limit, MOST_ENTRIES)
        return AccessQuery(since, until, self.document_id, self.agent, self.after, most)


def show_audit(options: GlobalOptions, request: AuditRequest, *, tenant: str) -> None:
    """Print the entries, oldest first: a table, or a line of JSON for each.

    Raises InvalidRequestError, NotFoundError, ConfigurationError without a service's token, and what stores
    and client raise.
    """
    asyncio.run(_show(options, request, tenant))


async def _show(options: GlobalOptions, request: AuditRequest, tenant: str) -> None:
    terminal = Terminal()
    query = request.query(now=SystemClock().now())
    seen = "its text" if query.document_id else "documents"
    shown = table("when (UTC)", "agent", "did", "id", seen)
    count = 0
    async with _pages(options, request, tenant) as pages:
        async for entry in _entries(pages, query, request, terminal):
            count += 1
            if options.json:
                terminal.json(entry.model_dump(mode="json"))
            else:
                shown.add_row(*_row(entry, query))
    span = f"from {query.since:%Y-%m-%d %H:%M} to {query.until:%Y-%m-%d %H:%M} UTC"
    if count and not options.json:
        terminal.out.print(shown)
    said = f"{count} entries {span}." if count else f"Nothing recorded {span}."
    terminal.err.print(plain(said, style="dim"))


async def _entries(
    pages: Pages, query: AccessQuery, request: AuditRequest, terminal: Terminal
) -> AsyncGenerator[AccessEntry]:
    """Yield the entries of all pages, ``request.limit`` at most; say how to continue where more follow."""
    left = request.limit
    while True:
        page = await pages(query)
        for entry in page.entries:
            yield entry
        if page.next_after is None:
            return
        if left is not None:
            left -= len(page.entries)
            if left <= 0:
                terminal.err.print(
                    plain(f"More follow: --after '{page.next_after}' with the same --from and --to.")
                )
                return
        query = replace(query, after=page.next_after, limit=min(left or MOST_ENTRIES, MOST_ENTRIES))


@asynccontextmanager
async def _pages(options: GlobalOptions, request: AuditRequest, tenant: str) -> AsyncGenerator[Pages]:
    """Yield a function that reads a page: from the state folder, or from the service of the request."""
    if request.service_url is None:
        async with options.stores(tenant) as stores:
            audit = Audit(records=stores.records, documents=stores.knowledge.states, clock=SystemClock())
            yield lambda query: audit.page(query, auditor=cli_reader())
        return
    token = options.service_token(of="an auditor's")
    async with AssistantClient(request.service_url, token=token) as client:

        async def page(query: AccessQuery) -> AccessPage:
            read = await client.audit(
                document_id=query.document_id,
                agent=query.agent,
                since=query.since,
                until=query.until,
                after=query.after,
                limit=query.limit,
            )
            return AccessPage(read.entries, read.next_after)

        yield page


def _instant(option: str, written: str, *, day_ends: bool = False) -> datetime:
    """Return the instant, UTC unless it has a zone. A day is its start, or with ``day_ends`` its end."""
    try:
        day = date.fromisoformat(written) if len(written) == len("2026-11-21") else None
        found = datetime.fromisoformat(written) if day is None else datetime.combine(day, time(), UTC)
    except ValueError:
        raise InvalidRequestError(
            f"{option} is {written!r}; write a day (2026-11-21) or an instant (2026-11-21T14:30)."
        ) from None
    if day is not None and day_ends:
        found += timedelta(days=1)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _row(entry: AccessEntry, query: AccessQuery) -> tuple[Text, ...]:
    if query.document_id is None:
        seen = ", ".join(f"{name} (quoted)" if name in entry.quoted else name for name in entry.documents)
    elif entry.kind == "document":
        seen = "whole"
    elif entry.kind == "widening":
        seen = "no"
    else:
        seen = "quoted" if query.document_id in entry.quoted else "listed as a source"
    when = f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return tuple(plain(cell) for cell in (when, entry.agent, _DID[entry.kind], entry.subject_id, seen))
