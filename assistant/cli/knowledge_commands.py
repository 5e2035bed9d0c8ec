"""``assistant knowledge add|list|status|migrate|reindex|withdraw``: a knowledge owner's commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from assistant.cli.terminal import GlobalOptions, Tenant

knowledge_app = typer.Typer(help="Add, list and withdraw documents.", no_args_is_help=True)
PATHS = "Files or folders of JSON lines, Markdown or HTML. Default: those of the tenant file."
SOURCE = "Name of a source in the tenant file. Default: the one without a namespace."
LABEL = "An access label that you hold; lets you make documents with it readable to more agents."
SERVICE = "Send the documents to this service, with the token in ASSISTANT_LOCAL_SERVICE_TOKEN."


@knowledge_app.command()
def add(
    context: typer.Context,
    tenant: Tenant,
    paths: Annotated[list[Path] | None, Argument(metavar="[PATH]...", help=PATHS)] = None,
    source: Annotated[str | None, Option(metavar="NAME", help=SOURCE)] = None,
    label: Annotated[list[str] | None, Option(metavar="LABEL", help=LABEL)] = None,
    service: Annotated[str | None, Option(metavar="URL", help=SERVICE)] = None,
) -> None:
    """Add documents and wait until each is indexed or failed. Unchanged ones are skipped."""
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
        list[str] | None, Option(metavar="STATE", help="live, failed, stale, withdrawn, …; may be repeated.")
    ] = None,
    source: Annotated[str | None, Option(metavar="NAME", help="Only of this source.")] = None,
) -> None:
    """List the documents with their state."""
    from assistant.cli.documents import list_documents

    list_documents(GlobalOptions.of(context), tenant=tenant, source=source, states=only or [])


@knowledge_app.command()
def status(
    context: typer.Context, document_id: Annotated[str, Argument(metavar="ID")], tenant: Tenant
) -> None:
    """Show one document: its state, its age, and why it failed."""
    from assistant.cli.documents import show_document

    show_document(GlobalOptions.of(context), tenant=tenant, document_id=document_id)


@knowledge_app.command()
def migrate(
    context: typer.Context,
    tenant: Tenant,
    into: Annotated[str | None, Option(metavar="NAME", help="Source for documents without one.")] = None,
    apply: Annotated[bool, Option("--apply", help="Make the changes; else only show them.")] = False,
) -> None:
    """Move documents of an older release to the sources and labels of the tenant file."""
    from assistant.cli.documents import migrate_knowledge

    migrate_knowledge(GlobalOptions.of(context), tenant=tenant, into=into, apply=apply)


@knowledge_app.command()
def reindex(
    context: typer.Context,
    tenant: Annotated[
        str | None, Option("--tenant", metavar="T", help="Name of a tenant file. Default: every tenant.")
    ] = None,
    model: Annotated[
        str | None, Option(metavar="NAME", help="An embedding model: an added one, or all-MiniLM-L6-v2.")
    ] = None,
    back: Annotated[bool, Option("--back", help="Make the index before live again.")] = False,
    drop_old: Annotated[bool, Option("--drop-old", help="Delete the index that is not live.")] = False,
) -> None:
    """Embed the documents with another model beside the live index, and switch to it."""
    from assistant.cli import knowledge as commands

    if (model is not None) + back + drop_old != 1:
        raise typer.BadParameter("Give one of --model NAME, --back and --drop-old.")
    options = GlobalOptions.of(context)
    tenants = list(options.tenants().tenants) if tenant is None else [options.tenant(tenant).name]
    if model is not None:
        commands.reindex_to(options, tenants=tenants, model=model)
    elif back:
        commands.reindex_back(options, tenants=tenants)
    else:
        commands.drop_old(options, tenants=tenants)


@knowledge_app.command()
def withdraw(
    context: typer.Context,
    document_ids: Annotated[list[str], Argument(metavar="ID...")],
    tenant: Tenant,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove documents from the answers and delete their text."""
    from assistant.cli.knowledge import withdraw_documents

    withdraw_documents(GlobalOptions.of(context), tenant=tenant, document_ids=document_ids, yes=yes)
