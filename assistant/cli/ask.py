"""``assistant ask`` and ``assistant token``: one question to the local service, and its bearer tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass

from assistant.cli.answer_view import AnswerPrinter, prints
from assistant.cli.knowledge import load_if_empty
from assistant.cli.local import LocalRuntime, local_runtime
from assistant.cli.records import explain
from assistant.cli.search import checked_question
from assistant.cli.terminal import GlobalOptions, Terminal
from assistant.client import AssistantClient, Question
from assistant.client.connection import refusal
from assistant.domain.errors import ConfigurationError
from assistant.domain.identity import Role
from assistant.local.layout import ISSUER, SERVICE, port_wishes, url_of
from assistant.local.processes import Registry
from assistant.local.tokens import CareCase, Grant, issue_context, issue_token
from assistant.settings.tenant import TenantConfig

_WAIT_FOR_VALUES_S = 0.4
"""How long text waits on the terminal for its live values: systems answer much sooner, and a reader hardly
notices it."""


@dataclass(frozen=True, slots=True)
class AgentQuestion:
    """A tenant's agent, their question, and perhaps whose conversation it belongs to."""

    tenant: str
    agent: str
    question: str
    case: CareCase | None = None


def case_of(customer: str, ids: Sequence[str]) -> CareCase:
    """Return whose conversation it is, by ids like ``order=4471-2208``. Raises ConfigurationError."""
    kinds: dict[str, tuple[str, ...]] = {}
    for each in ids:
        kind, joint, value = each.partition("=")
        if not (kind and joint and value):
            raise ConfigurationError(f'--id "{each}" is not KIND=ID, like order=4471-2208.')
        kinds[kind] = (*kinds.get(kind, ()), value)
    return CareCase(customer, kinds)


def ask_once(options: GlobalOptions, asked: AgentQuestion, *, explain_it: bool) -> None:
    """Answer one question on stdout. Raises AssistantError, also when the answer's stream failed."""
    tenant = options.tenant(asked.tenant)
    checked_question(asked.question)
    terminal = Terminal()
    context = None if asked.case is None else sign_context(options, tenant, asked.agent, asked.case)
    question = question_of(asked.question, context=context)
    runtime = local_runtime(options, terminal)
    with runtime.processes(runtime.layout.everything, command="assistant ask") as ports:
        asyncio.run(load_if_empty(runtime, asked.tenant))
        client = client_for(runtime, asked, ports=ports)
        show = _ask_as_json if options.json else _ask_on_terminal
        asyncio.run(show(terminal, client, question, explain_it=explain_it))
        if not options.json and not runtime.supervisor.is_kept(SERVICE):
            terminal.say(
                "the service has stopped again, so links to it do not open: make demo, or assistant "
                "local up, keeps it running, and answers come sooner"
            )


def client_for(runtime: LocalRuntime, asked: AgentQuestion, *, ports: Mapping[str, int]) -> AssistantClient:
    """Return a client of the local service for the agent; the caller closes it."""
    return client_of(runtime, Grant(asked.tenant, asked.agent), ports=ports)


def client_of(runtime: LocalRuntime, grant: Grant, *, ports: Mapping[str, int]) -> AssistantClient:
    """Return a client of the local service with this grant; the caller closes it."""
    return AssistantClient(url_of(SERVICE, ports), token=_token(runtime.options, grant, ports=ports))


def sign_context(options: GlobalOptions, tenant: TenantConfig, agent: str, case: CareCase) -> str:
    """Return the token that says whose conversation it is, as the tenant's care application signs it.

    Raises ConfigurationError for a tenant without one.
    """
    if (care := tenant.care_context) is None:
        raise ConfigurationError(
            f"{tenant.name} has no [care_context], so nobody can say whose conversation it is: docs/live.md."
        )
    return issue_context(
        case,
        Grant(tenant.name, agent),
        state_dir=options.state_dir.resolve(),
        issuer=care.issuer,
        audience=care.audience,
    )


async def answer_on(terminal: Terminal, client: AssistantClient, question: Question) -> AnswerPrinter:
    """Show one streamed answer. Raises RefusedByServiceError, UnreachableError."""
    printer = AnswerPrinter(terminal, base_url=client.base_url)
    with ExitStack() as waiting, ExitStack() as timers:
        waiting.enter_context(terminal.waiting("reading the knowledge base"))
        async with aclosing(client.stream(question)) as events:
            async for event in events:
                if prints(event):
                    waiting.close()
                printer.show(event)
                if printer.is_waiting:
                    timer = asyncio.get_running_loop().call_later(_WAIT_FOR_VALUES_S, printer.release)
                    timers.callback(timer.cancel)
    if printer.problem is not None:
        raise refusal(printer.problem)
    return printer


def question_of(text: str, *, context: str | None = None) -> Question:
    """Return a question whose answer ends when the command ends."""
    return Question(question=text, context=context, resume_window_s=0)


async def _ask_on_terminal(
    terminal: Terminal, client: AssistantClient, question: Question, *, explain_it: bool
) -> None:
    async with client:
        printer = await answer_on(terminal, client, question)
        if explain_it and printer.answer_id is not None:
            explain(terminal, (await client.read_answer(printer.answer_id)).record)


async def _ask_as_json(
    terminal: Terminal, client: AssistantClient, question: Question, *, explain_it: bool
) -> None:
    async with client:
        answer = await client.ask(question)
        if not explain_it:
            terminal.line(answer.model_dump_json())
            return
        record = (await client.read_answer(answer.answer_id)).record
        terminal.json({"answer": answer.model_dump(mode="json"), "record": record.model_dump(mode="json")})


def print_token(
    options: GlobalOptions, *, tenant: str, agent: str, roles: Sequence[Role], labels: Sequence[str]
) -> None:
    """Print a token for the service that runs, or that these options would start."""
    options.tenant(tenant)
    grant = Grant(tenant, agent, roles=tuple(roles), labels=tuple(labels))
    Terminal().line(_token(options, grant, ports=_ports(options)))


def print_context(options: GlobalOptions, *, tenant: str, agent: str, case: CareCase) -> None:
    """Print a context token. Raises ConfigurationError for a tenant without ``[care_context]``."""
    Terminal().line(sign_context(options, options.tenant(tenant), agent, case))


def _token(options: GlobalOptions, grant: Grant, *, ports: Mapping[str, int]) -> str:
    """Sign a bearer token in this process, with the issuer's key in the state folder."""
    return issue_token(grant, state_dir=options.state_dir.resolve(), issuer=url_of(ISSUER, ports))


def _ports(options: GlobalOptions) -> Mapping[str, int]:
    running = Registry.under(options.state_dir).read_living()
    if ISSUER in running.processes:
        return running.ports
    wishes = port_wishes(options.local_settings()).by_name
    if not wishes[ISSUER]:
        raise ConfigurationError(
            "A token names its issuer, and with --port 0 its port is known only while it runs: "
            "start it with assistant local up."
        )
    return wishes
