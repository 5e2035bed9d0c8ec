"""Commands of the models lab, in the groups of the core and of ``learn``."""

from __future__ import annotations

import typer


def add_to_models(app: typer.Typer) -> None:
    from assistant.options.models_lab.commands.candidates import candidates, try_
    from assistant.options.models_lab.commands.compiling import compile_
    from assistant.options.models_lab.commands.packaging import package
    from assistant.options.models_lab.commands.training import train

    for command in (candidates, try_, train, compile_, package):
        app.command(name=command.__name__.rstrip("_"))(command)


def add_to_knowledge(app: typer.Typer) -> None:
    from assistant.options.models_lab.commands.preparing import prepare

    app.command()(prepare)


def add_to_learn(app: typer.Typer) -> None:
    from assistant.options.models_lab.commands.exporting import export

    app.command()(export)
