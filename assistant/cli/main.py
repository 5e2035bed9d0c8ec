"""``assistant``: the command line and its exit statuses. The work is in the other modules.

Exit statuses: 0 done; 1 failed, with one sentence on stderr; 2 wrong usage; 130 ended by Ctrl-C;
143 ended by SIGTERM, 129 by a closed terminal.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from assistant.cli.deploy_commands import add_deploy_commands, tenant_app
from assistant.cli.global_options import GlobalOptions, Tenant, hoist
from assistant.cli.knowledge_commands import knowledge_app
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Role
from assistant.local.interruption import end_in_order_on_signals
from template_checks import InvalidInputError

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
models_app = typer.Typer(help="Bring a model of your own; list and choose models.", no_args_is_help=True)
app.add_typer(local_app, name="local")
app.add_typer(knowledge_app, name="knowledge")
app.add_typer(models_app, name="models")
app.add_typer(tenant_app, name="tenant")
Agent = Annotated[str, typer.Option("--agent", metavar="NAME", help="Who asks.")]


@app.callback()
def options(
    context: typer.Context,
    tenants: Annotated[Path, typer.Option(metavar="DIR", help="Folder of tenant files.")] = Path("tenants"),
    state: Annotated[Path, typer.Option(metavar="DIR", help="Folder of everything that is kept.")] = Path(
        ".state"
    ),
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65533,
            metavar="N",
            help="Service at N, issuer at N+1, gateway at N+2; 0 for any free ones.  [default: 8700]",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False,
) -> None:
    context.obj = GlobalOptions(tenants_dir=tenants, state_dir=state, port=port, json=json)


@app.command()
def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    tenant: Tenant,
    agent: Agent = "agent",
    explain: Annotated[
        bool, typer.Option("--explain", help="Show how: both legs, scores, gate, prompt, time per step.")
    ] = False,
) -> None:
    """Ask a question and read the answer as it is written."""
    from assistant.cli.ask import AgentQuestion, ask_once

    ask_once(GlobalOptions.of(context), AgentQuestion(tenant, agent, question), explain_it=explain)


@app.command()
def search(
    context: typer.Context,
    tenant: Tenant,
    question: Annotated[str | None, typer.Argument(metavar="[QUESTION]")] = None,
    queries: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help='Lines of {"qid", "question"}.')
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many documents a question.")] = 10,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN.jsonl", help='Gets lines of {"qid", "ids"}.')
    ] = None,
) -> None:
    """Retrieve without an answer, by the code of the answer path: one QUESTION, or a file of them."""
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
    """List what agents marked good or bad."""
    from assistant.cli.records import show_verdicts

    show_verdicts(GlobalOptions.of(context), tenant=tenant)


@app.command()
def token(
    context: typer.Context,
    tenant: Tenant,
    agent: Agent,
    role: Annotated[
        list[Role] | None,
        typer.Option(metavar="ROLE", help="agent (default), knowledge_owner or auditor; may be repeated."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="An access label; may be repeated.")
    ] = None,
) -> None:
    """Print a bearer token of the local issuer, and nothing else."""
    from assistant.cli.ask import print_token

    print_token(
        GlobalOptions.of(context), tenant=tenant, agent=agent, roles=role or [Role.AGENT], labels=label or []
    )


@app.command()
def replay(
    context: typer.Context, answer_id: Annotated[str, typer.Argument(metavar="ANSWER_ID")], tenant: Tenant
) -> None:
    """Show a recorded answer again, with all that led to it."""
    from assistant.cli.records import replay_answer

    replay_answer(GlobalOptions.of(context), tenant=tenant, answer_id=answer_id)


@app.command()
def audit(
    context: typer.Context,
    tenant: Tenant,
    document: Annotated[
        str | None, typer.Option("--document", metavar="ID", help="Who saw this document.")
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="What this agent saw.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", metavar="DAY", help="A day or an instant, UTC.  [default: 30 days before]"),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="DAY", help="The last day, or an instant.  [default: now]")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Entries at most.  [default: all]")
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="PLACE", help="Go on where a --limit stopped.")
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A service elsewhere; an auditor's token stands in ASSISTANT_LOCAL_SERVICE_TOKEN.",
        ),
    ] = None,
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
    exit_: Annotated[
        bool, typer.Option("--exit", help="Stop after the answers (also with CI=true).")
    ] = False,
) -> None:
    """Bring up all tenants, answer three questions, then go on serving until Ctrl-C."""
    from assistant.cli.demo import run_demo

    run_demo(GlobalOptions.of(context), stop_after_answers=exit_)


@app.command()
def evaluate(
    context: typer.Context,
    tenant: Annotated[
        list[str], typer.Option("--tenant", metavar="T", help="Name of a tenant file; may be repeated.")
    ],
    against: Annotated[str | None, typer.Option(metavar="NAME", help="Compare with a kept run.")] = None,
    questions: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Questions of your own (docs/evaluation.md).")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the HTML report.")] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Keep the run under this name.")] = None,
    draw: Annotated[str | None, typer.Option(metavar="SEED", help="Ask only some, drawn by a seed.")] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write the result into evaluation/baseline.json.")
    ] = False,
) -> None:
    """Ask a tenant's questions with known answers, and show how good the answers are."""
    from assistant.cli.evaluate import EvaluationPlan
    from assistant.cli.evaluate import evaluate as run

    run(
        GlobalOptions.of(context),
        EvaluationPlan(tuple(tenant), against, questions, out, name, drawn=draw, accepts=accept),
    )


@local_app.command()
def up(context: typer.Context) -> None:
    """Start everything and keep it running, so that the next commands answer at once."""
    from assistant.cli.local import bring_up

    bring_up(GlobalOptions.of(context))


@local_app.command()
def down(context: typer.Context) -> None:
    """Stop everything that runs for this state folder."""
    from assistant.cli.local import take_down

    take_down(GlobalOptions.of(context))


@local_app.command()
def status(context: typer.Context) -> None:
    """Show what runs, where, for whom."""
    from assistant.cli.local import show_status

    show_status(GlobalOptions.of(context))


@models_app.command()
def add(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A GGUF file, or the folder of an embedding model: model.safetensors or model.onnx, "
            "tokenizer.json, config.json. It stays where it is.",
        ),
    ],
    tenant: Tenant,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="By default the file's or folder's.")
    ] = None,
    writes_answers: Annotated[
        bool, typer.Option("--writes-answers", help="Let the LLM write answers; else they are quoted.")
    ] = False,
    prompt: Annotated[
        str | None, typer.Option(metavar="ID", help="Of the LLM: answer/2, or answer/1 for a small one.")
    ] = None,
    passages: Annotated[
        int | None, typer.Option(min=1, max=50, metavar="N", help="How many the LLM reads.")
    ] = None,
    context_tokens: Annotated[
        int | None, typer.Option(min=256, metavar="N", help="Of the LLM: prompt and answer together.")
    ] = None,
    pooling: Annotated[
        Literal["mean", "cls"] | None,
        typer.Option(help="Of an embedding model whose folder does not say it."),
    ] = None,
) -> None:
    """Check a model, describe it under the state folder, and use it for the tenant from now on."""
    from assistant.cli.models import ModelOptions, add_model

    add_model(
        GlobalOptions.of(context),
        tenant=tenant,
        brought=ModelOptions(path, name, writes_answers, prompt, passages, context_tokens, pooling),
    )


@models_app.command(name="list")
def list_(context: typer.Context) -> None:
    """List the models of this machine, and who uses them."""
    from assistant.cli.models import list_models

    list_models(GlobalOptions.of(context))


@models_app.command()
def use(
    context: typer.Context,
    tenant: Tenant,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A model that was added.")] = None,
    packaged: Annotated[bool, typer.Option("--packaged", help="Go back to the packaged models.")] = False,
) -> None:
    """Choose a tenant's model: one that was added, or the packaged ones."""
    from assistant.cli.models import use_model

    if (name is None) != packaged:
        raise typer.BadParameter("Give either the NAME of an added model, or --packaged.")
    use_model(GlobalOptions.of(context), tenant=tenant, name=name)


add_deploy_commands(app)


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
        _fail(f"A file of the state folder cannot be used: {error}.")
    sys.exit(0)


def _fail(sentence: str) -> NoReturn:
    sys.stderr.write(f"assistant: {sentence}\n")
    sys.exit(1)


if __name__ == "__main__":
    run()
