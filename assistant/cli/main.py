"""``assistant``: the command line and its exit statuses. The work is in the other modules.

Exit statuses: 0 done; 1 failed, with one sentence on stderr; 2 wrong usage; 130 ended by Ctrl-C;
143 ended by SIGTERM, 129 by a closed terminal.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from typer import Argument, Option

from assistant.cli.deploy_commands import deploy_app, tenant_app
from assistant.cli.desk import desk_app
from assistant.cli.knowledge_commands import knowledge_app
from assistant.cli.learn import learn_app
from assistant.cli.live import connector_app, systems_app
from assistant.cli.terminal import GlobalOptions, Tenant
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Role
from assistant.local.processes import end_in_order_on_signals
from template_checks import InvalidInputError

if TYPE_CHECKING:
    from assistant.cli.served_model import ServedOptions

app = typer.Typer(
    name="assistant",
    help=(
        "Answers care agents' questions from their own tenant's knowledge.\n\n"
        "The options below may stand before or after the command. Exit status: 0 done, 1 failed, "
        "2 wrong usage, 130 Ctrl-C."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
local_app = typer.Typer(help="Start, stop and show the local processes.", no_args_is_help=True)
models_app = typer.Typer(help="Add your own model; list and choose models.", no_args_is_help=True)
app.add_typer(local_app, name="local")
app.add_typer(knowledge_app, name="knowledge")
app.add_typer(models_app, name="models")
app.add_typer(learn_app, name="learn")
app.add_typer(desk_app, name="desk")
app.add_typer(connector_app, name="connector")
app.add_typer(systems_app, name="systems")
app.add_typer(tenant_app, name="tenant")
app.add_typer(deploy_app)
_WITH_VALUE = ("--tenants", "--state", "--port")
_WITHOUT_VALUE = ("--json",)
Agent = Annotated[str, Option("--agent", metavar="NAME", help="Name of the agent who asks.")]
PORT = "Port of the service; the issuer takes N+1, the gateway N+2; 0 takes free ones. Default 8700."
SERVICE = "Ask this service, with an auditor's token in ASSISTANT_LOCAL_SERVICE_TOKEN."
CUSTOMER = "Whose conversation it is, for live data: signed as the care application would."
WEIGHTS = (
    "A GGUF file, or the folder of an embedding model: model.safetensors or model.onnx, tokenizer.json, "
    "config.json. It is not copied."
)

Url = Annotated[str | None, Option("--url", metavar="URL", help="A chat server's API: http://HOST:PORT/v1.")]
ModelOfUrl = Annotated[str | None, Option("--model", metavar="NAME", help="The model's name at --url.")]
Endpoint = Annotated[
    str | None, Option("--endpoint", metavar="NAME", help="A SageMaker endpoint, by your AWS settings.")
]
KeyFile = Annotated[Path | None, Option("--key-file", metavar="FILE", help="File with the key of --url.")]
ContextTokens = Annotated[
    int | None, Option(min=256, metavar="N", help="LLM only: tokens of prompt and answer together.")
]
Tokenizer = Annotated[Path | None, Option(metavar="FILE", help="The model's tokenizer.json.")]
SendsTo = Annotated[
    str | None,
    Option("--sends-questions-to", metavar="HOST", help="Host of a --url outside your private networks."),
]


@app.callback()
def options(
    context: typer.Context,
    tenants: Annotated[Path, Option(metavar="DIR", help="Folder of the tenant files.")] = Path("tenants"),
    state: Annotated[Path, Option(metavar="DIR", help="Folder of all stored data.")] = Path(".state"),
    port: Annotated[int | None, Option(min=0, max=65533, metavar="N", help=PORT)] = None,
    json: Annotated[bool, Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    context.obj = GlobalOptions(tenants_dir=tenants, state_dir=state, port=port, json=json)


@app.command()
def ask(
    context: typer.Context,
    question: Annotated[str, Argument(metavar="QUESTION")],
    tenant: Tenant,
    agent: Agent = "agent",
    explain: Annotated[bool, Option("--explain", help="Show retrieval, gate, prompt and times.")] = False,
    customer: Annotated[str | None, Option(metavar="ID", help=CUSTOMER)] = None,
    ids: Annotated[
        list[str] | None,
        Option("--id", metavar="KIND=ID", help="An id of that customer's, like order=4471-2208; repeatable."),
    ] = None,
) -> None:
    """Ask a question and read the answer as it is written."""
    from assistant.cli.ask import AgentQuestion, ask_once, case_of

    if ids and customer is None:
        raise typer.BadParameter("--id needs --customer.")
    case = None if customer is None else case_of(customer, ids or ())
    ask_once(GlobalOptions.of(context), AgentQuestion(tenant, agent, question, case), explain_it=explain)


@app.command()
def search(
    context: typer.Context,
    tenant: Tenant,
    question: Annotated[str | None, Argument(metavar="[QUESTION]")] = None,
    queries: Annotated[
        Path | None, Option(metavar="FILE.jsonl", help='{"qid", "question"} per line.')
    ] = None,
    top: Annotated[int, Option(min=1, max=1000, help="Documents per question.")] = 10,
    out: Annotated[Path | None, Option(metavar="RUN.jsonl", help='Gets {"qid", "ids"} per line.')] = None,
) -> None:
    """Retrieve documents without an answer: for one QUESTION, or for a file of them."""
    from assistant.cli import search

    options = GlobalOptions.of(context)
    if queries is not None and question is None:
        if out is None:
            raise typer.BadParameter("--queries needs --out RUN.jsonl.")
        search.search_file(options, tenant=tenant, queries=queries, top=top, out=out)
    elif question is not None and queries is None and out is None:
        search.search_once(options, tenant=tenant, question=question, top=top)
    else:
        raise typer.BadParameter("Give either a QUESTION, or --queries FILE.jsonl with --out RUN.jsonl.")


@app.command()
def verdicts(context: typer.Context, tenant: Tenant) -> None:
    """List the verdicts of agents: answers marked good or bad."""
    from assistant.cli.records import show_verdicts

    show_verdicts(GlobalOptions.of(context), tenant=tenant)


@app.command()
def token(
    context: typer.Context,
    tenant: Tenant,
    agent: Agent,
    role: Annotated[
        list[Role] | None,
        Option(metavar="ROLE", help="agent (default), knowledge_owner or auditor; may be repeated."),
    ] = None,
    label: Annotated[list[str] | None, Option(metavar="LABEL", help="Access label; may be repeated.")] = None,
) -> None:
    """Print a bearer token of the local issuer, and nothing else."""
    from assistant.cli.ask import print_token

    roles = role or [Role.AGENT]
    print_token(GlobalOptions.of(context), tenant=tenant, agent=agent, roles=roles, labels=label or [])


@app.command()
def context(
    context: typer.Context,
    tenant: Tenant,
    agent: Agent,
    customer: Annotated[str, Option(metavar="ID", help=CUSTOMER)],
    ids: Annotated[
        list[str] | None,
        Option("--id", metavar="KIND=ID", help="An id of that customer's, like order=4471-2208; repeatable."),
    ] = None,
) -> None:
    """Print the context of a customer's conversation as the local care application signs it, for minutes."""
    from assistant.cli.ask import case_of, print_context

    case = case_of(customer, ids or ())
    print_context(GlobalOptions.of(context), tenant=tenant, agent=agent, case=case)


@app.command()
def replay(
    context: typer.Context, answer_id: Annotated[str, Argument(metavar="ANSWER_ID")], tenant: Tenant
) -> None:
    """Show a recorded answer and how it was made."""
    from assistant.cli.records import replay_answer

    replay_answer(GlobalOptions.of(context), tenant=tenant, answer_id=answer_id)


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
    service: Annotated[str | None, Option(metavar="URL", help=SERVICE)] = None,
) -> None:
    """List who saw a document or what an agent saw: texts read, and answers with their sources."""
    from assistant.cli.audit import AuditRequest, show_audit

    if document is None and agent is None:
        raise typer.BadParameter("Give --document ID, --agent NAME, or both.")
    request = AuditRequest(document, agent, since, until, after, limit, service)
    show_audit(GlobalOptions.of(context), request, tenant=tenant)


@app.command()
def demo(
    context: typer.Context,
    exit_: Annotated[bool, Option("--exit", help="Stop after the answers (also with CI=true).")] = False,
    url: Url = None,
    model: ModelOfUrl = None,
    endpoint: Endpoint = None,
    key_file: KeyFile = None,
    context_tokens: ContextTokens = None,
    tokenizer: Tokenizer = None,
    sends_questions_to: SendsTo = None,
) -> None:
    """Start all tenants, answer four questions, change an answer at the desk, then serve until Ctrl-C.

    With a model, its tenants' answers are written by it, as after: assistant models use. The model
    "recorded" plays committed answers of a language model, and says so beside each."""
    from assistant.cli.demo import run_demo
    from assistant.cli.served_model import ServedOptions

    served = ServedOptions(url, model, endpoint, key_file, context_tokens, tokenizer, sends_questions_to)
    if not served.plays_recording:
        _check_served(served, others=url is None and endpoint is None)
    run_demo(GlobalOptions.of(context), stop_after_answers=exit_, served=served)


@app.command()
def evaluate(
    context: typer.Context,
    tenant: Annotated[
        list[str] | None, Option("--tenant", metavar="T", help="Name of a tenant file; may be repeated.")
    ] = None,
    figure: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="Measure a figure of evaluation/figures.toml; may be repeated."),
    ] = None,
    show: Annotated[bool, Option("--show", help="Print the misses of a *-tuning figure.")] = False,
    against: Annotated[str | None, Option(metavar="NAME", help="Compare with this stored run.")] = None,
    questions: Annotated[
        Path | None, Option(metavar="FILE.jsonl", help="Ask your own questions (docs/evaluation.md).")
    ] = None,
    out: Annotated[Path | None, Option(metavar="DIR", help="Folder of the HTML report.")] = None,
    name: Annotated[str | None, Option(metavar="NAME", help="Store the run under this name.")] = None,
    accept: Annotated[bool, Option("--accept", help="Write the result to evaluation/baseline.json.")] = False,
    record: Annotated[
        Path | None, Option(metavar="FILE", help="Let the tenant's model write, and add its answers to FILE.")
    ] = None,
    replay: Annotated[
        list[Path] | None, Option(metavar="FILE", help="Play recorded answers in place of a model.")
    ] = None,
    reading: Annotated[
        Literal["plain", "model"] | None, Option(help="Who reads the messages; else as the tenant file says.")
    ] = None,
) -> None:
    """Ask a tenant's questions that have known answers, and measure the answers; or measure a --figure."""
    from assistant.cli.evaluate import EvaluationPlan
    from assistant.cli.evaluate import evaluate as run

    if bool(tenant) == bool(figure):
        raise typer.BadParameter("Give either --tenant T or --figure NAME.")
    if figure:
        if any((against, questions, out, name, accept, record, replay, reading)):
            raise typer.BadParameter("--figure takes --show and the options of every command alone.")
        from assistant.cli.figures import measure_figures

        measure_figures(GlobalOptions.of(context), figure, show=show)
        return
    plan = EvaluationPlan(
        tuple(tenant or ()),
        against,
        questions,
        out,
        name,
        accepts=accept,
        record=record,
        replay=tuple(replay or ()),
        reading=reading,
    )
    run(GlobalOptions.of(context), plan)


@local_app.command()
def up(context: typer.Context) -> None:
    """Start all processes and keep them running; the next commands then need not wait."""
    from assistant.cli.local import bring_up

    bring_up(GlobalOptions.of(context))


@local_app.command()
def down(context: typer.Context) -> None:
    """Stop all processes of this state folder."""
    from assistant.cli.local import take_down

    take_down(GlobalOptions.of(context))


@local_app.command()
def status(context: typer.Context) -> None:
    """Show each process, its address and the commands that use it."""
    from assistant.cli.local import show_status

    show_status(GlobalOptions.of(context))


@models_app.command()
def add(
    context: typer.Context,
    path: Annotated[Path, Argument(metavar="PATH", help=WEIGHTS)],
    tenant: Annotated[
        str | None,
        Option("--tenant", metavar="T", help="Use it for this tenant at once. Default: only add it."),
    ] = None,
    name: Annotated[str | None, Option(metavar="NAME", help="Default: that of the file or folder.")] = None,
    writes_answers: Annotated[
        bool, Option("--writes-answers", help="Let the LLM write answers instead of quoting them.")
    ] = False,
    prompt: Annotated[str | None, Option(metavar="ID", help="LLM only. Default: answer/4.")] = None,
    context_tokens: ContextTokens = None,
    pooling: Annotated[
        Literal["mean", "cls"] | None, Option(help="Embedding model only, if its folder does not say it.")
    ] = None,
) -> None:
    """Check a model, describe it in the state folder, and use it for a tenant."""
    from assistant.cli.models import ModelOptions, add_model

    brought = ModelOptions(path, name, writes_answers, prompt, context_tokens, pooling)
    add_model(GlobalOptions.of(context), tenant=tenant, brought=brought)


@models_app.command(name="list")
def list_(context: typer.Context) -> None:
    """List the models of this machine and the tenants that use each."""
    from assistant.cli.models import list_models

    list_models(GlobalOptions.of(context))


@models_app.command()
def use(
    context: typer.Context,
    tenant: Tenant,
    name: Annotated[str | None, Argument(metavar="[NAME]", help="Name of an added model.")] = None,
    packaged: Annotated[bool, Option("--packaged", help="Use the packaged models again.")] = False,
    url: Url = None,
    model: ModelOfUrl = None,
    endpoint: Endpoint = None,
    key_file: KeyFile = None,
    context_tokens: ContextTokens = None,
    tokenizer: Tokenizer = None,
    sends_questions_to: SendsTo = None,
) -> None:
    """Choose an added model for a tenant, the packaged ones, or an LLM behind a chat server or an endpoint.

    The last is checked, asked twenty questions, and timed first."""
    from assistant.cli.models import use_model
    from assistant.cli.served_model import ServedOptions, use_served_model

    served = ServedOptions(url, model, endpoint, key_file, context_tokens, tokenizer, sends_questions_to)
    _check_served(served, others=(name is not None) + packaged)
    if url is None and endpoint is None:
        use_model(GlobalOptions.of(context), tenant=tenant, name=name)
    else:
        use_served_model(GlobalOptions.of(context), tenants=[tenant], served=served)


def _check_served(served: ServedOptions, *, others: int) -> None:
    """``others``: how many other ways to name a model were used."""
    if (served.url is not None) + (served.endpoint is not None) + others != 1:
        raise typer.BadParameter("Give one of NAME, --packaged, --url URL and --endpoint NAME.")
    if (served.url is None) != (served.model is None):
        raise typer.BadParameter("--url URL and --model NAME go together.")
    of_url = (served.key_file, served.sends_questions_to)
    if served.url is None and any(one is not None for one in of_url):
        raise typer.BadParameter("--key-file and --sends-questions-to belong to --url.")


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point: every foreseeable error becomes one sentence on stderr and a status."""
    end_in_order_on_signals()
    try:
        app(args=hoist(sys.argv[1:] if arguments is None else arguments), prog_name="assistant")
    except (AssistantError, InvalidInputError) as error:
        _fail(error.message)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}.")
    except sqlite3.Error as error:
        _fail(f"Cannot use a file of the state folder: {error}.")
    sys.exit(0)


def hoist(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the global options first, wherever they were before a ``--``."""
    hoisted: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            others += [argument, *rest]
        elif argument in _WITH_VALUE:
            hoisted += [argument, *(value for value in [next(rest, None)] if value is not None)]
        elif argument in _WITHOUT_VALUE or argument.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            hoisted.append(argument)
        else:
            others.append(argument)
    return hoisted + others


def _fail(sentence: str) -> NoReturn:
    sys.stderr.write(f"assistant: {sentence}\n")
    sys.exit(1)


if __name__ == "__main__":
    run()
