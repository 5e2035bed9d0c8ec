"""``assistant desk``: the review desk, recorded answers, verdicts and audits from a terminal."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import orjson
import typer
from pydantic import ValidationError
from typer import Argument, Option

from assistant.answering.excerpts import fill_record, read_excerpts
from assistant.answering.stored import MOST_ENTRIES, Audit, entry_of_read
from assistant.api import wire
from assistant.cli.answer_view import Replayed, show_replayed, show_verdict
from assistant.cli.local import open_service
from assistant.cli.terminal import GlobalOptions, Tenant, Terminal, cli_reader, styled
from assistant.client import AssistantClient
from assistant.domain.answers import AccessEntry, AccessPage, AccessQuery, PassageUse
from assistant.domain.clock import SystemClock
from assistant.domain.desk import CaseState
from assistant.domain.desk_decisions import CaseApproval, CaseResolution
from assistant.domain.errors import InvalidRequestError, NotFoundError
from assistant.domain.identity import Role
from assistant.local.tokens import Grant

if TYPE_CHECKING:
    from assistant.wiring.stores import EmbeddedTenant

app = typer.Typer(no_args_is_help=True, add_completion=False)
_SERVICE = "Ask this service, with {} token in ASSISTANT_LOCAL_SERVICE_TOKEN."
_RESOLUTION = (
    "kind (approved_answer, document_question, glossary_entry, correction, dismissed), note, and the field "
    "that is named as the kind; as POST /v1/desk/cases/ID/resolution takes it, without revision."
)
Agent = Annotated[str, Option("--agent", metavar="NAME", help="Name of the reviewer.")]
Label = Annotated[
    list[str] | None, Option(metavar="LABEL", help="Access label of the reviewer; may be repeated.")
]
ServiceUrl = Annotated[str | None, Option("--service", metavar="URL", help=_SERVICE.format("a reviewer's"))]
State = Literal["open", "asked_owner", "proposed", "resolved", "dismissed"]
CaseId = Annotated[str, Argument(metavar="CASE")]
T = TypeVar("T")


# --- cases ------------------------------------------------------------------------------------------------
@app.command()
def cases(
    context: typer.Context,
    tenant: Tenant,
    agent: Agent = "reviewer",
    label: Label = None,
    state: Annotated[State | None, Option(help="Cases in this state only.")] = None,
    service: ServiceUrl = None,
) -> None:
    """List the queue, the latest opened first."""
    desk = _Desk.of(context, tenant, agent, label, service)
    wanted = None if state is None else CaseState(state)

    async def read(client: AssistantClient) -> list[wire.DeskCaseLine]:
        page = await client.list_cases(state=wanted, limit=100)
        lines = [*page.cases]
        while page.next_after is not None:
            page = await client.list_cases(state=wanted, after=page.next_after, limit=100)
            lines += page.cases
        return lines

    rows = (
        (
            line.model_dump(mode="json"),
            (
                line.case_id,
                line.state.value,
                line.reason.value,
                line.question or "",
                ", ".join(document.document_id for document in line.documents),
            ),
        )
        for line in desk.work(read)
    )
    headings = ("case", "state", "reason", "question", "documents")
    count = desk.terminal.listing(*headings, entries=rows, as_json=desk.options.json)
    desk.terminal.warn(f"{count} cases")


@app.command()
def show(
    context: typer.Context,
    case: CaseId,
    tenant: Tenant,
    agent: Agent = "reviewer",
    label: Label = None,
    service: ServiceUrl = None,
) -> None:
    """Show one case: what was asked, shown, sent and better, and its history."""
    _Desk.of(context, tenant, agent, label, service).show(lambda client: client.read_case(case))


@app.command()
def resolve(
    context: typer.Context,
    case: CaseId,
    tenant: Tenant,
    file: Annotated[Path, Option("--with", metavar="FILE.json", help=_RESOLUTION)],
    agent: Agent = "reviewer",
    label: Label = None,
    service: ServiceUrl = None,
) -> None:
    """Resolve a case by what a file says; under the profile hipaa this proposes it."""

    async def send(client: AssistantClient) -> wire.DeskCase:
        revision = (await client.read_case(case)).revision
        return await client.resolve_case(case, _read_resolution(file, revision=revision))

    _Desk.of(context, tenant, agent, label, service).show(send)


@app.command()
def approve(
    context: typer.Context,
    case: CaseId,
    tenant: Tenant,
    agent: Agent = "reviewer",
    label: Label = None,
    refuse: Annotated[bool, Option("--refuse", help="Refuse it: the case is open again.")] = False,
    note: Annotated[str, Option(metavar="TEXT", help="Why.")] = "",
    service: ServiceUrl = None,
) -> None:
    """Approve what another person proposed."""

    async def send(client: AssistantClient) -> wire.DeskCase:
        revision = (await client.read_case(case)).revision
        decision = CaseApproval(revision=revision, approve=not refuse, note=note)
        return await client.approve_case(case, decision)

    _Desk.of(context, tenant, agent, label, service).show(send)


@dataclass(frozen=True, slots=True)
class _Desk:
    """A reviewer at the desk of a service, or of the local one."""

    options: GlobalOptions
    grant: Grant
    service: str | None
    terminal: Terminal

    @classmethod
    def of(
        cls, context: typer.Context, tenant: str, agent: str, labels: list[str] | None, service: str | None
    ) -> _Desk:
        grant = Grant(tenant, agent, roles=(Role.REVIEWER,), labels=tuple(labels or ()))
        return cls(GlobalOptions.of(context), grant, service, Terminal())

    def work(self, work: Callable[[AssistantClient], Awaitable[T]]) -> T:
        """Return what ``work`` does as the reviewer."""
        options, url = self.options, self.service

        async def run() -> T:
            async with open_service(
                options, self.terminal, self.grant, url=url, of="a reviewer's", command="assistant desk"
            ) as client:
                return await work(client)

        return asyncio.run(run())

    def show(self, work: Callable[[AssistantClient], Awaitable[wire.DeskCase]]) -> None:
        """Print the case that ``work`` returns."""
        case, terminal = self.work(work), self.terminal
        if self.options.json:
            terminal.line(case.model_dump_json())
            return
        facts = {
            "case": f"{case.case_id} ({case.case.state.value}, revision {case.revision})",
            "reason": case.case.reason.value,
            "asked": case.asked,
            "shown": case.shown,
            "sent": case.sent[-1].text if case.sent else "",
            "better": case.better_text or "",
        }
        for name, text in facts.items():
            if text:
                terminal.out.print(styled((f"{name:<8}", "bold"), (text, "")))
        for step in case.history:
            note = f": {step.note}" if step.note else ""
            terminal.show(
                f"{step.revision}  {step.at:%Y-%m-%d %H:%M}  {step.state.value} by {step.by}{note}", "dim"
            )


def _read_resolution(file: Path, *, revision: int) -> CaseResolution:
    try:
        content: object = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InvalidRequestError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise InvalidRequestError(f"{file} must hold a JSON object.")
    try:
        return CaseResolution.model_validate_json(orjson.dumps({"revision": revision, **content}))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the object"
        raise InvalidRequestError(f"{file}: {place}: {first['msg']}.") from None


# --- records ----------------------------------------------------------------------------------------------
@app.command()
def verdicts(context: typer.Context, tenant: Tenant) -> None:
    """List the verdicts of agents, oldest first: answers marked good or bad."""
    options, terminal = GlobalOptions.of(context), Terminal()

    async def read(stores: EmbeddedTenant) -> Any:
        now = SystemClock().now()
        entry = AccessEntry(at=now, agent=cli_reader(), kind="verdicts", subject_id="all")
        await stores.records.record_access(entry)
        return await stores.records.list_verdicts()

    stored = options.with_stores(tenant, read)
    if options.json:
        terminal.json({"verdicts": [verdict.model_dump(mode="json") for verdict in stored]})
        return
    for verdict in stored:
        show_verdict(terminal, verdict)
    if not stored:
        terminal.warn("No verdicts yet.")


@app.command()
def replay(
    context: typer.Context, answer_id: Annotated[str, Argument(metavar="ANSWER_ID")], tenant: Tenant
) -> None:
    """Show a recorded answer and how it was made."""
    options, terminal = GlobalOptions.of(context), Terminal()
    replayed = options.with_stores(tenant, lambda stores: _replay(stores, tenant, answer_id))
    if not options.json:
        show_replayed(terminal, replayed)
        return
    passages = [
        {**use.model_dump(mode="json"), "text": text}
        for use, text in zip(replayed.record.passages, replayed.texts, strict=True)
    ]
    record = replayed.record.model_dump(mode="json") | {"passages": passages}
    given = [verdict.model_dump(mode="json") for verdict in replayed.verdicts]
    terminal.json({"record": record, "verdicts": given})


async def _replay(stores: EmbeddedTenant, tenant: str, answer_id: str) -> Replayed:
    record = await stores.records.get_answer(answer_id)
    if record is None:
        raise NotFoundError(f"{tenant} has no answer {answer_id}.")
    entry = entry_of_read("answer", answer_id, [record], reader=cli_reader(), at=SystemClock().now())
    await stores.records.record_access(entry)
    shown = await read_excerpts(record.excerpts, stores.texts, labels=frozenset(record.labels))
    record = fill_record(record, shown)
    texts = [await _text_of(stores, use) for use in record.passages]
    return Replayed(record, tuple(texts), tuple(await stores.records.list_verdicts(answer_id)))


async def _text_of(stores: EmbeddedTenant, use: PassageUse) -> str | None:
    parsed = await stores.knowledge.documents.get_parsed(use.document_id, use.content_hash)
    if parsed is None:
        return None
    text = parsed.text[use.span[0] : use.span[1]]
    return text if hashlib.sha256(text.encode()).hexdigest() == use.text_hash else None


# --- audits -----------------------------------------------------------------------------------------------
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
"""Reads a page of entries: from the state folder, or from a service."""


@app.command()
def audit(
    context: typer.Context,
    tenant: Tenant,
    document: Annotated[str | None, Option("--document", metavar="ID", help="Who saw this document.")] = None,
    agent: Annotated[str | None, Option("--agent", metavar="NAME", help="What this agent saw.")] = None,
    since: Annotated[
        str | None,
        Option("--from", metavar="DAY", help="First day or instant, UTC; default 30 days before --to."),
    ] = None,
    until: Annotated[
        str | None, Option("--to", metavar="DAY", help="Last day or instant, UTC; default now.")
    ] = None,
    limit: Annotated[
        int | None, Option("--limit", min=1, metavar="N", help="Most entries to list; default all.")
    ] = None,
    after: Annotated[
        str | None, Option("--after", metavar="PLACE", help="Continue where a --limit stopped.")
    ] = None,
    service: Annotated[str | None, Option(metavar="URL", help=_SERVICE.format("an auditor's"))] = None,
) -> None:
    """List who saw a document or what an agent saw, oldest first: texts read, and answers with their
    sources."""
    if document is None and agent is None:
        raise typer.BadParameter("Give --document ID, --agent NAME, or both.")
    options, terminal = GlobalOptions.of(context), Terminal()
    end = SystemClock().now() if until is None else _instant("--to", until, day_ends=True)
    begin = end - LOOKS_BACK if since is None else _instant("--from", since)
    most = MOST_ENTRIES if limit is None else min(limit, MOST_ENTRIES)
    query = AccessQuery(begin, end, document, agent, after, most)
    entries, next_after = asyncio.run(_entries(options, tenant, service, query, limit=limit))
    rows = ((entry.model_dump(mode="json"), _cells(entry, query)) for entry in entries)
    seen = "its text" if query.document_id else "documents"
    count = terminal.listing("when (UTC)", "agent", "did", "id", seen, entries=rows, as_json=options.json)
    if next_after is not None:
        terminal.warn(f"More follow: --after '{next_after}' with the same --from and --to.", "")
    span = f"from {query.since:%Y-%m-%d %H:%M} to {query.until:%Y-%m-%d %H:%M} UTC"
    terminal.warn(f"{count} entries {span}." if count else f"Nothing recorded {span}.")


async def _entries(
    options: GlobalOptions, tenant: str, service: str | None, query: AccessQuery, *, limit: int | None
) -> tuple[Sequence[AccessEntry], str | None]:
    """Return the entries of all pages, ``limit`` at most, and the place of the next one, if there is one."""
    entries: list[AccessEntry] = []
    async with _pages(options, tenant, service) as read:
        while True:
            page = await read(query)
            entries += page.entries
            if page.next_after is None or (limit is not None and len(entries) >= limit):
                return entries, page.next_after
            left = MOST_ENTRIES if limit is None else limit - len(entries)
            query = replace(query, after=page.next_after, limit=min(left, MOST_ENTRIES))


@asynccontextmanager
async def _pages(options: GlobalOptions, tenant: str, service: str | None) -> AsyncGenerator[Pages]:
    if service is None:
        async with options.stores(tenant) as stores:
            audit = Audit(records=stores.records, documents=stores.knowledge.states, clock=SystemClock())
            yield lambda query: audit.page(query, auditor=cli_reader())
        return
    async with AssistantClient(service, token=options.service_token(of="an auditor's")) as client:

        async def page(query: AccessQuery) -> AccessPage:
            read = await client.audit(**asdict(query))
            return AccessPage(read.entries, read.next_after)

        yield page


def _instant(option: str, written: str, *, day_ends: bool = False) -> datetime:
    """Return the instant, UTC unless it has a zone. A day is its start, or with ``day_ends`` its end."""
    try:
        day = date.fromisoformat(written) if len(written) == len("2026-11-21") else None
        instant = datetime.fromisoformat(written) if day is None else datetime.combine(day, time(), UTC)
    except ValueError:
        raise InvalidRequestError(
            f"{option} is {written!r}; write a day (2026-11-21) or an instant (2026-11-21T14:30)."
        ) from None
    if day is not None and day_ends:
        instant += timedelta(days=1)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _cells(entry: AccessEntry, query: AccessQuery) -> tuple[str, ...]:
    if query.document_id is None:
        seen = ", ".join(f"{name} (quoted)" if name in entry.quoted else name for name in entry.documents)
    elif entry.kind in ("document", "widening"):
        seen = "whole" if entry.kind == "document" else "no"
    else:
        seen = "quoted" if query.document_id in entry.quoted else "listed as a source"
    when = f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return when, entry.agent, _DID[entry.kind], entry.subject_id, seen
