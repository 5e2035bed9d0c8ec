"""``assistant knowledge add|list|status|migrate|withdraw``: what a knowledge owner does from a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assistant.cli.global_options import GlobalOptions, Tenant

knowledge_app = typer.Typer(help="Bring, watch and withdraw documents.", no_args_is_help=True)

Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="NAME",
        help="A [[sources]] entry of the tenant file; by default the one without a namespace.",
    ),
]


@knowledge_app.command()
def add(
    context: typer.Context,
    tenant: Tenant,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Files or folders: JSON lines, Markdown, HTML; by default those of the tenant file, each as "
            "its source's.",
        ),
    ] = None,
    source: Source = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL",
            help="An access label that you hold, to make documents that carry it readable to more.",
        ),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A service elsewhere; its token stands in ASSISTANT_LOCAL_SERVICE_TOKEN."
        ),
    ] = None,
) -> None:
    """Bring documents and follow them until they answer or failed. Unchanged ones cost nothing."""
    options = GlobalOptions.of(context)
    if service is not None:
        from assistant.cli.loading import add_to_service

        add_to_service(options, tenant=tenant, source=source, paths=paths or [], service_url=service)
        return
    from assistant.cli.knowledge import add_documents

    add_documents(options, tenant=tenant, source=source, paths=paths or [], labels=label or [])


@knowledge_app.command(name="list")
def list_(
    context: typer.Context,
    tenant: Tenant,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help="live, failed, stale, withdrawn, …; may be repeated."),
    ] = None,
    source: Annotated[str | None, typer.Option(metavar="NAME", help="Of one [[sources]] entry.")] = None,
) -> None:
    """List the documents with their state."""
    from assistant.cli.documents import list_documents

    list_documents(GlobalOptions.of(context), tenant=tenant, source=source, states=only or [])


@knowledge_app.command()
def status(
    context: typer.Context, document_id: Annotated[str, typer.Argument(metavar="ID")], tenant: Tenant
) -> None:
    """Show one document: its state, its age, and why it failed."""
    from assistant.cli.documents import show_document

    show_document(GlobalOptions.of(context), tenant=tenant, document_id=document_id)


@knowledge_app.command()
def migrate(
    context: typer.Context,
    tenant: Tenant,
    into: Annotated[
        str | None, typer.Option(metavar="NAME", help="The source of documents that have none.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Change what is said; else nothing is changed.")
    ] = False,
) -> None:
    """Bring documents under the sources and labels of the tenant file; says what it would do."""
    from assistant.cli.documents import migrate_knowledge

    migrate_knowledge(GlobalOptions.of(context), tenant=tenant, into=into, apply=apply)


@knowledge_app.command()
def withdraw(
    context: typer.Context,
    document_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    tenant: Tenant,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take documents out of the answers and delete their text."""
    from assistant.cli.knowledge import withdraw_documents

    withdraw_documents(GlobalOptions.of(context), tenant=tenant, document_ids=document_ids, yes=yes)
