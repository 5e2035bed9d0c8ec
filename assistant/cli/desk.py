"""``assistant desk``: the review desk from a terminal, by the API of a local service or of another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer
from typer import Argument, Option

from assistant.cli.terminal import GlobalOptions, Tenant
from assistant.domain.errors import InvalidRequestError
from assistant.domain.identity import Role

if TYPE_CHECKING:
    from assistant.api import wire
    from assistant.cli.terminal import Terminal
    from assistant.client import AssistantClient
    from assistant.domain.desk_decisions import CaseResolution

desk_app = typer.Typer(help="Review what agents marked, edited or got no answer to.", no_args_is_help=True)
_SERVICE = "Ask this service, with a reviewer's token in ASSISTANT_LOCAL_SERVICE_TOKEN."
_RESOLUTION = (
    "kind (approved_answer, document_question, glossary_entry, correction, dismissed), note, and the field "
    "that is named as the kind; as POST /v1/desk/cases/ID/resolution takes it, without revision."
)
Agent = Annotated[str, Option("--agent", metavar="NAME", help="Name of the reviewer.")]
Label = Annotated[
    list[str] | None, Option(metavar="LABEL", help="Access label of the reviewer; may be repeated.")
]
ServiceUrl = Annotated[str | None, Option("--service", metavar="URL", help=_SERVICE)]
State = Literal["open", "asked_owner", "proposed", "resolved", "dismissed"]
CaseId = Annotated[str, Argument(metavar="CASE")]


@dataclass(frozen=True, slots=True)
class _Reviewer:
    options: GlobalOptions
    tenant: str
    agent: str
    labels: Sequence[str]
    service_url: str | None

    def run(self, work: Callable[[AssistantClient, Terminal], Awaitable[None]]) -> None:
        asyncio.run(self._run(work))

    async def _run(self, work: Callable[[AssistantClient, Terminal], Awaitable[None]]) -> None:
        from assistant.cli.terminal import Terminal

        terminal = Terminal()
        async with self._client(terminal) as client:
            await work(client, terminal)

    @asynccontextmanager
    async def _client(self, terminal: Terminal) -> AsyncGenerator[AssistantClient]:
        """Yield a client of the service; the local one is started if it does not run."""
        from assistant.client import AssistantClient

        with ExitStack() as stack:
            if self.service_url is not None:
                token, url = self.options.service_token(of="a reviewer's"), self.service_url
            else:
                from assistant.cli.local import local_runtime
                from assistant.local.layout import ISSUER, SERVICE, url_of
                from assistant.local.tokens import Grant, issue_token

                self.options.tenant(self.tenant)
                runtime = local_runtime(self.options, terminal)
                processes = runtime.processes(runtime.layout.everything, command="assistant desk")
                ports = stack.enter_context(processes)
                grant = Grant(self.tenant, self.agent, roles=(Role.REVIEWER,), labels=tuple(self.labels))
                state_dir = self.options.state_dir.resolve()
                token = issue_token(grant, state_dir=state_dir, issuer=url_of(ISSUER, ports))
                url = url_of(SERVICE, ports)
            async with AssistantClient(url, token=token) as client:
                yield client


@desk_app.command()
def cases(
    context: typer.Context,
    tenant: Tenant,
    agent: Agent = "reviewer",
    label: Label = None,
    state: Annotated[State | None, Option(help="Cases in this state only.")] = None,
    service: ServiceUrl = None,
) -> None:
    """List the queue, the latest opened first."""
    options = GlobalOptions.of(context)

    async def work(client: AssistantClient, terminal: Terminal) -> None:
        from assistant.cli.terminal import plain, table
        from assistant.domain.desk import CaseState

        wanted = None if state is None else CaseState(state)
        shown, after, count = table("case", "state", "reason", "question", "documents"), None, 0
        while True:
            page = await client.list_cases(state=wanted, after=after, limit=100)
            for line in page.cases:
                count += 1
                if options.json:
                    terminal.line(line.model_dump_json())
                    continue
                documents = ", ".join(one.document_id for one in line.documents)
                cells = (line.case_id, line.state.value, line.reason.value, line.question or "", documents)
                shown.add_row(*map(plain, cells))
            after = page.next_after
            if after is None:
                break
        if count and not options.json:
            terminal.out.print(shown)
        terminal.err.print(plain(f"{count} cases", style="dim"))

    _Reviewer(options, tenant, agent, label or (), service).run(work)


@desk_app.command()
def show(
    context: typer.Context,
    case: CaseId,
    tenant: Tenant,
    agent: Agent = "reviewer",
    label: Label = None,
    service: ServiceUrl = None,
) -> None:
    """Show one case: what was asked, shown, sent and better, and its history."""
    options = GlobalOptions.of(context)

    async def work(client: AssistantClient, terminal: Terminal) -> None:
        _print(terminal, await client.read_case(case), options)

    _Reviewer(options, tenant, agent, label or (), service).run(work)


@desk_app.command()
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
    options = GlobalOptions.of(context)
    said = _read(file)

    async def work(client: AssistantClient, terminal: Terminal) -> None:
        found = await client.read_case(case)
        asked = _checked({"revision": found.revision} | said, file)
        _print(terminal, await client.resolve_case(case, asked), options)

    _Reviewer(options, tenant, agent, label or (), service).run(work)


@desk_app.command()
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
    options = GlobalOptions.of(context)

    async def work(client: AssistantClient, terminal: Terminal) -> None:
        from assistant.domain.desk_decisions import CaseApproval

        found = await client.read_case(case)
        asked = CaseApproval(revision=found.revision, approve=not refuse, note=note)
        _print(terminal, await client.approve_case(case, asked), options)

    _Reviewer(options, tenant, agent, label or (), service).run(work)


def _read(file: Path) -> dict[str, Any]:
    import orjson

    try:
        said: object = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise InvalidRequestError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(said, dict):
        raise InvalidRequestError(f"{file} must hold a JSON object.")
    return cast("dict[str, Any]", said)


def _checked(said: dict[str, Any], file: Path) -> CaseResolution:
    import orjson
    from pydantic import ValidationError

    from assistant.domain.desk_decisions import CaseResolution

    try:
        return CaseResolution.model_validate_json(orjson.dumps(said))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the object"
        raise InvalidRequestError(f"{file}: {place}: {first['msg']}.") from None


def _print(terminal: Terminal, found: wire.DeskCase, options: GlobalOptions) -> None:
    from assistant.cli.terminal import plain, styled

    if options.json:
        terminal.line(found.model_dump_json())
        return
    told = {
        "case": f"{found.case_id} ({found.case.state.value}, revision {found.revision})",
        "reason": found.case.reason.value,
        "asked": found.asked,
        "shown": found.shown,
        "sent": found.sent[-1].text if found.sent else "",
        "better": found.better_text or "",
    }
    for name, text in told.items():
        if text:
            terminal.out.print(styled((f"{name:<8}", "bold"), (text, "")))
    for one in found.history:
        note = f": {one.note}" if one.note else ""
        line = f"{one.revision}  {one.at:%Y-%m-%d %H:%M}  {one.state.value} by {one.by}{note}"
        terminal.out.print(plain(line, style="dim"))
