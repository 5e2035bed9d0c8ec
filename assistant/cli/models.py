"""``assistant models``: describes models under the state folder, and chooses them; weights stay in place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from assistant.answering.prompt import load_prompt
from assistant.cli.knowledge import embed_again
from assistant.cli.terminal import GlobalOptions, Terminal, table
from assistant.domain.errors import ConfigurationError, ConflictError, NotFoundError
from assistant.local.layout import models_dir
from assistant.private_files import make_private_folder, write_private
from assistant.settings import local_models
from assistant.settings.model_artifacts import WRITER, AnsweringTable
from assistant.settings.process import ModelServerSettings, inherited_environment
from assistant.settings.tenant import EmbeddingSection, TenantConfig, load_tenants

_BUILD_TIMEOUT_S = 600.0
_SHOWN_DIGITS = 12
_PACKAGED = (("embedding", local_models.PACKAGED_EMBEDDING), ("generation", "SmolLM2-135M-Instruct"))


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """The options for a model; None takes the weights' or the product's default."""

    path: Path
    name: str | None = None
    writes_answers: bool = False
    prompt: str | None = None
    context_tokens: int | None = None
    pooling: Literal["mean", "cls"] | None = None

    def answering(self) -> AnsweringTable:
        """Return the table of the manifest. Raises ConfigurationError for an unknown or unsuitable prompt."""
        defaults = WRITER if self.writes_answers else AnsweringTable()
        given = {"prompt": self.prompt}
        try:
            update = {key: value for key, value in given.items() if value is not None}
            table = AnsweringTable.model_validate(defaults.model_dump() | update)
        except ValidationError as error:
            raise ConfigurationError(f"--prompt {self.prompt}: {error.errors()[0]['msg']}.") from None
        if load_prompt(table.prompt).refusal is None and table.writes_answers:
            raise ConfigurationError(
                f'--writes-answers with prompt "{table.prompt}", which does not let the model refuse '
                f'(it has no "# refusal" section). Use {WRITER.prompt}.'
            )
        return table


def add_model(options: GlobalOptions, *, tenant: str | None, brought: ModelOptions) -> None:
    """Load the weights once, describe them, and choose them for the tenant, if one is named."""
    from assistant.model_server.weights import Wishes, look_at

    terminal = Terminal()
    config = None if tenant is None else _served_so_far(options, tenant)
    wishes = Wishes(
        name=brought.name,
        answering=brought.answering(),
        pooling=brought.pooling,
        context_tokens=brought.context_tokens,
    )
    with terminal.waiting("reading the model"):
        try:
            model = look_at(brought.path, wishes)
        except ValidationError as error:
            raise ConfigurationError(
                f"{brought.path}: its name is not one of letters, digits, dots and hyphens "
                f"({error.errors()[0]['msg']}). Give it one with --name."
            ) from None
    folder = models_dir(options.state_dir) / model.name
    _refuse_other(folder, model)
    manifest = folder / local_models.MANIFEST_FILE
    before = manifest.read_bytes() if manifest.is_file() else None
    make_private_folder(folder)
    write_private(manifest, model.as_toml().encode())
    try:
        with terminal.waiting("loading the model once"):
            model = _built(model, folder, config)
    except ConfigurationError:
        if before is None:
            manifest.unlink()
        else:
            write_private(manifest, before)
        raise
    write_private(manifest, model.as_toml().encode())
    if config is None:
        terminal.out.print(f"Added {model.name} ({model.origin}).", markup=False)
        terminal.say(_how_to_use(model))
        return
    choose_for(options, config.name, model, terminal)


def _how_to_use(model: local_models.AddedModel) -> str:
    if isinstance(model, local_models.AddedEmbedding):
        return f"no tenant uses it yet: assistant knowledge reindex --model {model.name} --tenant T"
    return f"no tenant uses it yet: assistant models use {model.name} --tenant T"


def use_model(options: GlobalOptions, *, tenant: str, name: str | None) -> None:
    """Choose an added model for the tenant, or with None the packaged ones."""
    terminal = Terminal()
    _known(options, tenant)
    folder = models_dir(options.state_dir)
    if name is None:
        local_models.choose_packaged(folder, tenant)
        terminal.out.print(f"{tenant} uses the packaged models.", markup=False)
        embed_again(options, terminal, tenant=tenant)
        return
    there = {model.name: model for model in local_models.added_models(folder)}
    if name not in there:
        known = ", ".join(there) or "none"
        raise NotFoundError(
            f"There is no added model {name}; there are: {known}. Add one: assistant models add PATH."
        )
    choose_for(options, tenant, there[name], terminal)


def list_models(options: GlobalOptions) -> None:
    """Print the packaged and the added models, and the tenants that use each."""
    terminal = Terminal()
    folder = models_dir(options.state_dir)
    chosen = options.local_models(options.tenants().tenants)
    rows: list[Mapping[str, Any]] = []
    for task, name in _PACKAGED:
        users = [tenant for tenant, models in chosen.items() if getattr(models, task) is None]
        rows.append({"name": name, "task": task, "packaged": True, "used_by": users})
    for model in local_models.added_models(folder):
        users = [tenant for tenant, models in chosen.items() if getattr(models, model.task) == model]
        rows.append(model.model_dump(mode="json") | {"packaged": False, "used_by": users})
    if options.json:
        terminal.json({"models": rows})
        return
    shown: list[tuple[str, ...]] = []
    for row in rows:
        path = str(row.get("path") or row.get("url") or row.get("region") or "package")
        digest = row.get("sha256", "")[:_SHOWN_DIGITS]
        shown.append((row["name"], row["task"], path, digest, _answers(row), ", ".join(row["used_by"])))
    terminal.out.print(table("model", "task", "from", "sha256", "answers", "used by", rows=shown))


def _answers(row: Mapping[str, Any]) -> str:
    if row["task"] == "embedding":
        return ""
    return "written" if row.get("answering", {}).get("writes_answers") else "quoted"


def describe(options: GlobalOptions, model: local_models.ServedLlm) -> None:
    """Write the model's manifest, in place of one of the same server and model. Raises ConflictError."""
    folder = models_dir(options.state_dir) / model.name
    _refuse_other(folder, model)
    make_private_folder(folder)
    write_private(folder / local_models.MANIFEST_FILE, model.as_toml().encode())


def choose_for(
    options: GlobalOptions, tenant: str, model: local_models.AddedModel, terminal: Terminal
) -> None:
    """Choose an added model for the tenant, and say what follows from it."""
    before = load_tenants(options.tenants_dir).one(tenant)
    local_models.choose(models_dir(options.state_dir), tenant, model)
    terminal.out.print(f"{tenant} uses {model.name} ({model.origin}).", markup=False)
    if isinstance(model, local_models.AddedEmbedding):
        size = (
            f"vectors of {model.dimensions} dimensions, the index of {before.name} has "
            f"{before.embedding.dimensions}"
            if model.dimensions != before.embedding.dimensions
            else "vectors of another model"
        )
        terminal.say(f"{size}: the knowledge is embedded again into a new index version")
        embed_again(options, terminal, tenant=before.name)
    elif isinstance(model, local_models.AddedLlm) and not model.answering.writes_answers:
        terminal.say("answers stay quoted; --writes-answers lets this model write them")


def _served_so_far(options: GlobalOptions, tenant: str) -> TenantConfig:
    """Return the tenant with the models it uses here, or as in its file where a chosen model is invalid."""
    _known(options, tenant)
    try:
        return options.tenant(tenant)
    except ConfigurationError:
        return load_tenants(options.tenants_dir).one(tenant)


def _known(options: GlobalOptions, tenant: str) -> None:
    """Raise NotFoundError for an unknown tenant; a chosen model that is missing is no error here."""
    load_tenants(options.tenants_dir).one(tenant)


def _refuse_other(folder: Path, model: local_models.AddedModel) -> None:
    packaged = {name for _, name in _PACKAGED}
    if model.name in packaged:
        raise ConflictError(
            f"{model.name} is the name of a packaged model. Give this one another: --name NAME."
        )
    if not (folder / local_models.MANIFEST_FILE).is_file():
        return
    there = local_models.read_added_model(folder)
    if (there.task, there.origin) != (model.task, model.origin):
        raise ConflictError(
            f"There is already a model {model.name} with other weights ({there.origin}, these are "
            f"{model.origin}). Give this one another name: --name NAME."
        )


def _built(
    model: local_models.ModelWithWeights, folder: Path, tenant: TenantConfig | None
) -> local_models.ModelWithWeights:
    """Load the weights once and return the model with its measured cosines. Raises ConfigurationError.

    In a separate process: a runtime may end its process on bad weights.
    """
    from assistant.model_server.artifact import read_artifact

    embedding = EmbeddingSection() if tenant is None else tenant.embedding
    settings = ModelServerSettings(
        task=model.task, manifest=folder / local_models.MANIFEST_FILE, artifacts_dir=folder.parent
    ).model_copy(
        update={"max_input_tokens": min(model.max_tokens, embedding.max_tokens)}
        if isinstance(model, local_models.AddedEmbedding)
        else {"context_tokens": model.context_tokens}
    )
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "assistant.model_server.artifact"],
        env=inherited_environment() | settings.environment(),
        capture_output=True,
        text=True,
        timeout=_BUILD_TIMEOUT_S,
        check=False,
    )
    if ended.returncode != 0:
        lines = ended.stderr.strip().splitlines() or [f"the process ended with status {ended.returncode}"]
        raise ConfigurationError(f"{model.path}: the model cannot be served here: {lines[-1]}")
    artifact = read_artifact(folder)
    if not isinstance(model, local_models.AddedEmbedding) or artifact is None:
        return model
    measured = {name: getattr(artifact, name) for name in ("cosine_unrelated", "cosine_related")}
    return model.model_copy(update=measured)
