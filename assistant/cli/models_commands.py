"""``assistant models add|list|use``: other models than the packaged ones, on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from assistant.cli.global_options import GlobalOptions

models_app = typer.Typer(help="Bring a model of your own; list and choose models.", no_args_is_help=True)

Tenant = Annotated[str, typer.Option("--tenant", metavar="T", help="Name of a tenant file.")]


@models_app.command()
def add(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A GGUF file, or the folder of an embedding model: model.safetensors or model.onnx, "
            "tokenizer.json, config.json. It stays where it is.",
            show_default=False,
        ),
    ],
    tenant: Tenant,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="By default the file's or folder's.", show_default=False),
    ] = None,
    writes_answers: Annotated[
        bool,
        typer.Option("--writes-answers", help="Let the LLM write answers; else they are quoted."),
    ] = False,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Of the LLM: answer/2, or answer/1 for a small one.", show_default=False
        ),
    ] = None,
    passages: Annotated[
        int | None,
        typer.Option(min=1, max=50, metavar="N", help="How many the LLM reads.", show_default=False),
    ] = None,
    context_tokens: Annotated[
        int | None,
        typer.Option(
            min=256, metavar="N", help="Of the LLM: prompt and answer together.", show_default=False
        ),
    ] = None,
    pooling: Annotated[
        Literal["mean", "cls"] | None,
        typer.Option(help="Of an embedding model whose folder does not say it.", show_default=False),
    ] = None,
) -> None:
    """Check a model, describe it under the state folder, and use it for the tenant from now on."""
    from assistant.cli.models import Brought, add_model

    add_model(
        GlobalOptions.of(context),
        tenant=tenant,
        brought=Brought(path, name, writes_answers, prompt, passages, context_tokens, pooling),
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
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="A model that was added.", show_default=False)
    ] = None,
    packaged: Annotated[bool, typer.Option("--packaged", help="Go back to the packaged models.")] = False,
) -> None:
    """Choose a tenant's model: one that was added, or the packaged ones."""
    from assistant.cli.models import use_model

    if (name is None) != packaged:
        raise typer.BadParameter("Give either the NAME of an added model, or --packaged.")
    use_model(GlobalOptions.of(context), tenant=tenant, name=name)
