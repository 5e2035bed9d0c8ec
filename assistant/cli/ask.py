"""``assistant ask``: one question to the local service, and whose conversation it belongs to."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from typer import Argument, Option

from assistant.client import AssistantClient, Question
from assistant.domain.errors import ConfigurationError, InvalidRequestError, UnreadableRequestError
from assistant.laptop.tokens import CareCase, Grant, issue_context
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.answer_view import answer_on, question_of
from assistant.terminal.answer_view import explain as explain_record
from assistant.terminal.loading import load_if_empty
from assistant.terminal.local import local_runtime
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, ids_by_kind

app = typer.Typer(add_completion=False)
CUSTOMER = "Whose conversation it is, for live data: signed as the care application would."
Agent = Annotated[str, Option("--agent", metavar="NAME", help="Name of the agent who asks.")]
Ids = Annotated[
    list[str] | None,
    Option("--id", metavar="KIND=ID", help="An id of that customer's, like order=4471-2208; repeatable."),
]


SERVICE = "Ask this service, with an agent's token in ASSISTANT_LOCAL_SERVICE_TOKEN."


@app.command()
def ask(
    context: typer.Context,
    question: Annotated[str, Argument(metavar="QUESTION")],
    tenant: Tenant,
    agent: Agent = "agent",
    explain: Annotated[bool, Option("--explain", help="Show retrieval, gate, prompt and times.")] = False,
    customer: Annotated[str | None, Option(metavar="ID", help=CUSTOMER)] = None,
    ids: Ids = None,
    service: Annotated[str | None, Option(metavar="URL", help=SERVICE)] = None,
) -> None:
    """Ask a question and read the answer as it is written."""
    if ids and customer is None:
        raise typer.BadParameter("--id needs --customer.")
    if customer is not None and service is not None:
        raise typer.BadParameter("--customer is signed for the service of this machine, not for --service.")
    options, terminal = GlobalOptions.of(context), Terminal()
    config = options.tenant(tenant)  # ConfigurationError for an unknown tenant
    _check(question)
    care_case = None if customer is None else CareCase(customer, ids_by_kind("--id", ids or ()))
    context_token = None if care_case is None else sign_context(options, config, agent, care_case)
    prepared = question_of(question, context=context_token)
    ask_and_show = _ask_as_json if options.json else _ask_on_terminal
    if service is not None:
        client = options.service_client(service, of="an agent's")
        asyncio.run(ask_and_show(terminal, client, prepared, explain_it=explain))
        return
    runtime = local_runtime(options, terminal)
    with runtime.site(command="assistant ask", shows=True):
        asyncio.run(load_if_empty(runtime, tenant))
        client = runtime.client(Grant(tenant, agent))
        asyncio.run(ask_and_show(terminal, client, prepared, explain_it=explain))
    if not options.json and runtime.site_here is not None:
        terminal.say(
            "the service has stopped again, so links to it do not open: make demo, or assistant "
            "tenant up, keeps it running, and answers come sooner"
        )


def _check(question: str) -> None:
    """Raise UnreadableRequestError where the question is not UTF-8, InvalidRequestError where it is blank."""
    try:
        question.encode("utf-8")
    except UnicodeEncodeError:  # Python keeps bytes that are not UTF-8 as lone surrogates
        raise UnreadableRequestError("The question is not UTF-8.") from None
    if not question.strip():
        raise InvalidRequestError("The question is empty.")


def sign_context(options: GlobalOptions, tenant: TenantConfig, agent: str, case: CareCase) -> str:
    """Return the context token (a JWT) that names the customer of a conversation and the ids of their things.

    It is signed with the local care application's key, as the tenant's own would sign it. Raises
    ConfigurationError for a tenant without ``[care_context]``.
    """
    if (care := tenant.care_context) is None:
        raise ConfigurationError(
            f"{tenant.name} has no [care_context], so nobody can say whose conversation it is."
        )
    return issue_context(
        case,
        Grant(tenant.name, agent),
        state_dir=options.state_dir.resolve(),
        issuer=care.issuer,
        audience=care.audience,
    )


async def _ask_on_terminal(
    terminal: Terminal, client: AssistantClient, question: Question, *, explain_it: bool
) -> None:
    """Print the answer as it is streamed; then, if asked for, its record."""
    async with client:
        printer = await answer_on(terminal, client, question)
        if explain_it and printer.answer_id is not None:
            explain_record(terminal, (await client.read_answer(printer.answer_id)).record)


async def _ask_as_json(
    terminal: Terminal, client: AssistantClient, question: Question, *, explain_it: bool
) -> None:
    """Print one JSON object: the answer alone, or ``{"answer": …, "record": …}``."""
    async with client:
        answer = await client.ask(question)
        if not explain_it:
            terminal.line(answer.model_dump_json())
            return
        results = {"answer": answer, "record": (await client.read_answer(answer.answer_id)).record}
        terminal.json({name: model.model_dump(mode="json") for name, model in results.items()})
