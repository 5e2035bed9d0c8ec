"""``assistant desk``: recorded answers, verdicts and audits from a terminal."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from assistant.answer.excerpts import fill_record, read_excerpts
from assistant.documents.readable import ReadableDocuments
from assistant.domain.answers import PassageUse
from assistant.domain.audit import AccessEntry, AccessPage, AccessQuery
from assistant.domain.clock import SystemClock
from assistant.domain.errors import NotFoundError
from assistant.service import wire
from assistant.service.audit import MOST_ENTRIES, Audit
from assistant.service.stored import entry_of_read
from assistant.stores.documents import STATES
from assistant.stores.records import RECORDS
from assistant.terminal.answer_view import Replayed, show_replayed
from assistant.terminal.terminal import From, GlobalOptions, Tenant, Terminal, To, cli_reader, window_of

if TYPE_CHECKING:
    from assistant.stores.opened import EmbeddedTenant

app = typer.Typer(no_args_is_help=True, add_completion=False)
_SERVICE = "Ask this service, with an auditor's token in ASSISTANT_LOCAL_SERVICE_TOKEN."


# --- records ----------------------------------------------------------------------------------------------
@app.command()
def replay(
    context: typer.Context, answer_id: Annotated[str, Argument(metavar="ANSWER_ID")], tenant: Tenant
) -> None:
    """Show a recorded answer and how it was made."""
    options, terminal = GlobalOptions.of(context), Terminal()
    replayed = options.with_stores(tenant, lambda stores: _replay(stores, tenant, answer_id))
    passages = [
        {**use.model_dump(mode="json"), "text": text}
        for use, text in zip(replayed.record.passages, replayed.texts, strict=True)
    ]
    record = replayed.record.model_dump(mode="json") | {"passages": passages}
    if not options.writes({"record": record, "verdicts": replayed.verdicts}):
        show_replayed(terminal, replayed)


async def _replay(stores: EmbeddedTenant, tenant: str, answer_id: str) -> Replayed:
    """Return a recorded answer with the texts that it was made from. The read is recorded before they are
    read.

    Raises NotFoundError.
    """
    records = stores.get(RECORDS)
    record = await records.get_answer(answer_id)
    if record is None:
        raise NotFoundError(f"{tenant} has no answer {answer_id}.")
    entry = entry_of_read("answer", answer_id, [record], reader=cli_reader(), at=SystemClock().now())
    await records.record_access(entry)
    readable = ReadableDocuments(stores.knowledge.documents, states=stores.get(STATES))
    shown = await read_excerpts(record.excerpts, readable, labels=frozenset(record.labels))
    record = fill_record(record, shown)
    texts = [await _text_of(stores, use) for use in record.passages]
    return Replayed(record, tuple(texts), tuple(await records.list_verdicts(answer_id)))


async def _text_of(stores: EmbeddedTenant, use: PassageUse) -> str | None:
    """Return the text of a passage; None where the document's content is no longer kept or differs."""
    parsed = await stores.knowledge.documents.get_parsed(use.document_id, use.content_hash)
    if parsed is None:
        return None
    text = parsed.text[use.span[0] : use.span[1]]
    return text if hashlib.sha256(text.encode()).hexdigest() == use.text_hash else None


# --- audits -----------------------------------------------------------------------------------------------
# What an entry says that the agent did, in the audit's column of this name. Every ``AccessEntry.kind`` has a
# row, but for ``said``, which no audit lists.
_DID = {
    "asked": "was given an answer",
    "answer": "read an answer",
    "conversation": "read a conversation",
    "document": "read the document",
    "search": "searched",
    "verdicts": "read verdicts",
    "audit": "asked for an audit",
    "widening": "was refused to widen its labels",
    "desk": "read at the review desk",
    "release": "released documents of a source",
}


@app.command()
def audit(
    context: typer.Context,
    tenant: Tenant,
    document: Annotated[str | None, Option("--document", metavar="ID", help="Who saw this document.")] = None,
    agent: Annotated[str | None, Option("--agent", metavar="NAME", help="What this agent saw.")] = None,
    since: From = None,
    until: To = None,
    service: Annotated[str | None, Option(metavar="URL", help=_SERVICE)] = None,
) -> None:
    """List who saw a document or what an agent saw, oldest first: texts read, and answers with their
    sources."""
    if document is None and agent is None:
        raise typer.BadParameter("Give --document ID, --agent NAME, or both.")
    options, terminal = GlobalOptions.of(context), Terminal()
    begin, end = window_of(since, until)
    query = AccessQuery(begin, end, document, agent, None, MOST_ENTRIES)
    entries = asyncio.run(_entries(options, tenant, service, query))
    rows = ((entry, _cells(entry, query)) for entry in entries)
    seen = "its text" if query.document_id else "documents"
    count = terminal.listing("when (UTC)", "agent", "did", "id", seen, entries=rows, as_json=options.json)
    span = f"from {query.since:%Y-%m-%d %H:%M} to {query.until:%Y-%m-%d %H:%M} UTC"
    terminal.warn(f"{count} entries {span}." if count else f"Nothing recorded {span}.")


async def _entries(
    options: GlobalOptions, tenant: str, service: str | None, query: AccessQuery
) -> list[AccessEntry]:
    """Return the entries of all pages: from the state folder, or from a service."""
    entries: list[AccessEntry] = []
    read: Callable[[AccessQuery], Awaitable[AccessPage | wire.AuditPage]]
    async with AsyncExitStack() as stack:
        if service is None:
            stores = await stack.enter_async_context(options.stores(tenant))
            audit = Audit(records=stores.get(RECORDS), documents=stores.get(STATES), clock=SystemClock())
            read = partial(audit.page, auditor=cli_reader())
        else:
            service_client = options.service_client(service, of="an auditor's")
            client = await stack.enter_async_context(service_client)

            async def ask(query: AccessQuery) -> wire.AuditPage:
                return await client.audit(**asdict(query))

            read = ask

        while True:
            page = await read(query)
            entries += page.entries
            if page.next_after is None:
                return entries
            query = replace(query, after=page.next_after)


def _cells(entry: AccessEntry, query: AccessQuery) -> tuple[str, ...]:
    """Return a row: time, agent, act, id, and what was seen: the documents, or how much of the one asked for.

    Example: ("2026-11-20 09:14:02", "amira", "was given an answer", "a1b2…", "quoted").
    """
    if query.document_id is None:
        seen = ", ".join(f"{name} (quoted)" if name in entry.quoted else name for name in entry.documents)
    elif entry.kind in ("document", "widening"):
        seen = "whole" if entry.kind == "document" else "no"
    else:
        seen = "quoted" if query.document_id in entry.quoted else "listed as a source"
    when = f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return when, entry.agent, _DID[entry.kind], entry.subject_id, seen
