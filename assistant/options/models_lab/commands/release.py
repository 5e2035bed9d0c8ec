"""``assistant models package`` and ``release``: a tuned model beside the served one, by the
credentials of whoever deploys the tenant.

    package FOLDER --name tuned --like served   manifest of the weights, with --put also the objects
    (candidate = "tuned" under [models], deploy)
    release tuned --evaluation A --against B    a share of the calls; ``canary.py`` moves the endpoint
    release --counts                            what became of each variant's answers
    release --back                              the end of it
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from typer import Argument, Option

from assistant.domain.errors import ConfigurationError, ConflictError, NotFoundError
from assistant.options.desk.commands_learn import Hours, OfDeployment
from assistant.tenant.deployment import ModelsSection
from assistant.tenant.manifests import (
    CALLERS_PREFIX,
    DEFAULT_INSTANCES,
    Lineage,
    LlmManifest,
    artifact_sha256,
    file_sha256,
)
from assistant.tenant.prices import HOURS_A_MONTH, load_prices
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, plain, table

if TYPE_CHECKING:
    from assistant.options.models_lab.commands.canary import Canary, VariantCounts
    from assistant.terminal.account import Deployed

_ARTIFACTS = Path("model_artifacts/llm")
"""Relative to the checkout, where these commands run."""
_CARD, _CONFIG = "training.json", "config.json"
_TEMPLATE, _TOKENIZER = "chat_template.jinja", "tokenizer.json"
_BESIDE = (_CARD, "artifact.json")
"""Files that jobs put beside the weights. They are not packaged: the endpoint's role may read only what its
manifest names."""
_WEIGHTS = (".safetensors", ".gguf")
_ARCHITECTURE = {"num_hidden_layers": "layers", "num_key_value_heads": "kv_heads", "head_dim": "head_size"}
"""Key of config.json = field of the manifest."""


def package(
    context: typer.Context,
    folder: Annotated[Path, Argument(metavar="FOLDER", exists=True, file_okay=False)],
    name: Annotated[str, Option("--name", metavar="NAME", help="Folder under model_artifacts/llm/.")],
    like: Annotated[str, Option(metavar="NAME", help="Artifact whose weights were tuned.")],
    card: Annotated[Path | None, Option(metavar="FILE", help="training.json of the training job.")] = None,
    evaluated: Annotated[
        Path | None, Option(metavar="FILE", help="The same weights, as evaluated (GGUF).")
    ] = None,
    put: Annotated[
        str | None, Option(metavar="T", help="Tenant whose bucket gets it, as its publisher.")
    ] = None,
) -> None:
    """Make an artifact of a folder of tuned weights: its hash and manifest, and with --put the objects."""
    from assistant.terminal import publishing

    like_folder = _ARTIFACTS / like
    manifest, files = make_artifact(folder, name=name, like=like_folder, card=card, evaluated=evaluated)
    Terminal().show(f"{name} = {manifest.sha256}: {_ARTIFACTS / name / 'manifest.toml'}")
    if put is None:
        return
    deployed, models = _deployed(GlobalOptions.of(context), put)
    with TemporaryDirectory() as scratch:
        keys = {f"llm/{name}/{manifest.sha256}/{file}": path for file, path in files.items()}
        if models.llm == name:  # the service reads them at its next start: not before it is the served model
            keys |= _callers_of(manifest, files, into=Path(scratch))
        terminal = Terminal(steps=True)
        publishing.upload(deployed, keys, terminal)
        publishing.check_artifact(manifest, deployed=deployed, terminal=terminal)


def make_artifact(
    folder: Path, *, name: str, like: Path, card: Path | None, evaluated: Path | None
) -> tuple[LlmManifest, Mapping[str, Path]]:
    """Write ``manifest.toml`` of the artifact ``name`` beside the one that it is ``like``.

    Return it with the artifact's files by their names in it. Raises ConfigurationError, ConflictError where
    the name has other weights already.

    ``card``: of its training job (``training.json``); None: it is in the folder or above it. ``evaluated``:
    the file of the same weights that an evaluation read (a GGUF), whose hash ``lineage.also`` holds.
    """
    base, into = LlmManifest.read(like), like.parent / name
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    files = {file: paths[file] for file in sorted(paths.keys() - set(_BESIDE)) if not file.startswith(".")}
    if wrong := list(_faults(base, files, templates=like.parent.glob("*.jinja"))):
        raise ConfigurationError(f"{folder} is no artifact like {base.name}: {'; '.join(wrong)}.")
    sizes = [path.stat().st_size for file, path in files.items() if file.endswith(_WEIGHTS)]
    cards = (folder / _CARD, folder.parent / _CARD)  # of neither the second one is named in the error
    update = {
        "name": name,
        "sha256": artifact_sha256({file: file_sha256(path) for file, path in files.items()}),
        "files": tuple(files),
        "weights_bytes": sum(sizes),
        "lineage": _lineage(base, card or next(filter(Path.is_file, cards), cards[-1]), evaluated),
    }
    _write_manifest(base.model_copy(update=update), into)
    return LlmManifest.read(into), files


def _faults(base: LlmManifest, files: Mapping[str, Path], *, templates: Iterable[Path]) -> Iterator[str]:
    """Yield what is wrong with an artifact's files, and what to do. ``templates``: the chat templates that
    were looked through (``model_artifacts/llm/*.jinja``)."""
    if not any(name.endswith(_WEIGHTS) for name in files):
        yield "it has no weights (*.safetensors, *.gguf)"
    if missing := [name for name in base.files if name not in files and not name.endswith(_WEIGHTS)]:
        yield f"it lacks {', '.join(missing)}; assistant models compile makes neuron_config.json and model.pt"
    config: dict[str, Any] = json.loads(files[_CONFIG].read_bytes()) if _CONFIG in files else {}
    for key, field in _ARCHITECTURE.items():
        expected = getattr(base, field)
        if config.get(key, expected) != expected:
            yield f"{key} is {config[key]}, not {expected}; name the model that was tuned: --like NAME"
    template = files.get(base.chat_template or "")
    if template and template.read_bytes() not in {path.read_bytes() for path in templates}:
        yield f"{template.name} is none of model_artifacts/llm/*.jinja, and the model could reason aloud"


def _lineage(base: LlmManifest, card: Path, evaluated: Path | None) -> Lineage:
    """Return what a tuned model was made of, by the card that its training job wrote
    (``containers/training_job``). Raises ConfigurationError.

        {"base_model": SHA256, "training_set": SHA256, "licenses": {"base": "Apache-2.0", "set": "…"}, …}
    """
    try:
        job_card = json.loads(card.read_bytes())
        return Lineage(
            base=base.name,
            base_model=job_card["base_model"],
            training_set=job_card["training_set"],
            licences={name: job_card["licenses"][name] for name in ("base", "set")},
            also=() if evaluated is None else (file_sha256(evaluated),),
        )
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{error.filename}: no such file. Name the card of the job: --card FILE."
        ) from None
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise ConfigurationError(f"{card} is no card of a training job ({type(error).__name__}).") from None


def _write_manifest(manifest: LlmManifest, folder: Path) -> None:
    """Write ``manifest.toml``, whole or not at all. Raises ConflictError where it has another hash."""
    import tomlkit  # of the command line alone

    path, written = folder / "manifest.toml", folder / ".manifest.toml.new"
    if path.is_file() and LlmManifest.read(folder).sha256 not in (None, manifest.sha256):
        raise ConflictError(
            f"{path} is of other weights. An artifact never changes: give these another name."
        )
    folder.mkdir(exist_ok=True)
    text = tomlkit.dumps(manifest.model_dump(mode="json", exclude_none=True))
    written.write_text(f"# Written by assistant models package.\n{text}", encoding="utf-8")
    written.replace(path)


def _callers_of(manifest: LlmManifest, files: Mapping[str, Path], *, into: Path) -> dict[str, Path]:
    """Write into a folder what callers of the endpoint read; return the files by their keys in the bucket:
    the facts of the model, and its tokenizer, by which the service counts tokens.

    Empty for an artifact without a chat template of its own: our own model server serves it, and makes these
    files itself (``assistant.model_server.artifact``).
    """
    if _TEMPLATE not in files:
        return {}
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from tokenizers import Tokenizer

    from assistant.model_server.artifact import ARTIFACT_FILE, ModelArtifact, template_overhead

    tokenizer = Tokenizer.from_file(str(files[_TOKENIZER]))
    # As transformers renders it: src/transformers/utils/chat_template_utils.py, _compile_jinja_template.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files[_TEMPLATE].read_text(encoding="utf-8"))

    def prompt_tokens(messages: Sequence[Mapping[str, str]]) -> int:
        """Return the tokens of these messages under the model's chat template."""
        prompt = template.render(messages=messages, add_generation_prompt=True)
        return len(tokenizer.encode(prompt, add_special_tokens=False).ids)

    per_message, fixed = template_overhead(tokenizer, prompt_tokens)
    facts = ModelArtifact(
        model=manifest.served_name,
        task="generation",
        digest=str(manifest.sha256),
        max_input_tokens=manifest.sequence_length - 1,
        context_tokens=manifest.sequence_length,
        template_tokens_per_message=per_message,
        template_tokens_fixed=fixed,
        answering=manifest.answering,
    )
    (into / ARTIFACT_FILE).write_text(facts.model_dump_json(indent=1), encoding="utf-8")
    prefix = f"{CALLERS_PREFIX}{manifest.served_name}"
    return {f"{prefix}/{ARTIFACT_FILE}": into / ARTIFACT_FILE, f"{prefix}/{_TOKENIZER}": files[_TOKENIZER]}


# --- release ------------------------------------------------------------------------------------------------
def release(
    context: typer.Context,
    tenant: Tenant,
    name: Annotated[str, Argument(metavar="[NAME]", help="The tenant's models.candidate.")] = "",
    share: Annotated[int, Option(min=1, max=50, metavar="PERCENT", help="Of the LLM's calls.")] = 5,
    evaluation: Annotated[str | None, Option(metavar="NAME", help="Stored run of the candidate.")] = None,
    against: Annotated[str | None, Option(metavar="NAME", help="Stored run of the served model.")] = None,
    yes: Annotated[bool, Option("--yes", help="Do not ask after the price is shown.")] = False,
    back: Annotated[bool, Option("--back", help="End the canary: its share, then its instance.")] = False,
    counts: Annotated[
        bool,
        Option("--counts", help="Count each variant's answers by their fate. Status 1: the canary is worse."),
    ] = False,
    hours: Hours = 168,
    deployed_stores: OfDeployment = False,
) -> None:
    """Run a tuned model beside the served one, with a share of the calls. The price is shown first."""
    if bool(name) + back + counts != 1:
        raise typer.BadParameter("Give the NAME of a candidate, --back or --counts.")
    from assistant.terminal.publishing import check_artifact

    options, terminal = GlobalOptions.of(context), Terminal(steps=True)
    if counts:
        return _show_counts(options, tenant, hours, deployed=deployed_stores)
    deployed, models = _deployed(options, tenant)
    if back:
        canary = _canary(deployed)
        terminal.show(f"{canary.endpoint}: {canary.rollback() or 'paused; it resumes without a canary'}")
        return None
    manifests = _manifests(models, name)
    _show_compared(options, terminal, tenant, evaluation, against, manifests)
    canary = _canary(deployed)
    if canary.artifact != manifests[1].sha256:
        raise ConflictError(f"The stack declares {canary.artifact}, not the {name} of the manifest. Deploy.")
    canary.check_free()
    terminal.show(_price(models, manifests[1]))
    if not yes:
        typer.confirm(f"Release {name} to {share} % of the calls of {tenant}?", abort=True, err=True)
    check_artifact(manifests[1], deployed=deployed, terminal=terminal)
    terminal.step("updating the endpoint: some 20 to 60 minutes")
    terminal.show(f"{canary.endpoint}: {canary.release(share)}")
    return None


def _show_compared(
    options: GlobalOptions,
    terminal: Terminal,
    tenant: str,
    evaluation: str | None,
    against: str | None,
    manifests: tuple[LlmManifest, LlmManifest],
) -> None:
    """Show how the candidate differs from the served model. Raises ConfigurationError, ConflictError."""
    from assistant.evaluation.measures import read_run
    from assistant.options.models_lab.commands.canary import compared

    if evaluation is None or against is None:
        raise ConfigurationError(
            "A release rests on an evaluation of both models on the held-out questions. Name both runs: "
            "--evaluation CANDIDATE --against SERVED (assistant evaluate --record FILE --name NAME)."
        )
    runs = options.state_dir / "evaluations"
    before, after = (read_run(runs, name).of(tenant) for name in (against, evaluation))
    if before is None or after is None:
        raise ConfigurationError(f"The evaluations {against} and {evaluation} did not both ask {tenant}.")
    for name, change in compared(before, after, manifests=manifests).items():
        interval = f"[{change.low:+.3f}, {change.high:+.3f}]"
        terminal.show(f"{name}: {change.value:+.3f} {interval}, {change.questions} questions")
    for run in (before, after):
        if run.writer_sha256 is None:
            terminal.say(f"the evaluation of {run.writer!r} names no hash: is it of the right model?")


def _show_counts(options: GlobalOptions, tenant: str, hours: int, *, deployed: bool) -> None:
    """Show answers, marks, withheld text and failures by variant. Exit with 1 where the canary is worse."""
    from assistant.options.models_lab.commands.canary import FATES, harm_of

    counts = asyncio.run(_count(options, tenant, hours, deployed=deployed))
    worse = harm_of(counts)
    shares = {name: {fate: counted.share(fate) for fate in FATES} for name, counted in sorted(counts.items())}
    if not options.writes({"shares": shares, "worse": worse}):
        rows = [
            (name, counts[name].shown_digests, str(counts[name].answers), *map(str, by_fate.values()))
            for name, by_fate in shares.items()
        ]
        shown = table("variant", "artifact", "answers", *FATES, right=("answers", *FATES), rows=rows)
        Terminal().out.print(shown if rows else plain(f"No model wrote in the last {hours} hours."))
    if worse:
        advice = f"assistant models release --back --tenant {tenant}"
        Terminal().warn(
            f"The canary is worse than the served model: {', '.join(worse)}. {advice}", "bold red"
        )
        raise typer.Exit(1)


async def _count(
    options: GlobalOptions, tenant: str, hours: int, *, deployed: bool
) -> dict[str, VariantCounts]:
    """Return the counts of the last hours by variant, of a deployment or of this machine."""
    from assistant.options.models_lab.commands.canary import count_variants
    from assistant.stores.opened import open_deployed
    from assistant.stores.records import RECORDS

    until = datetime.now(UTC)
    since = until - timedelta(hours=hours)
    if deployed:
        async with open_deployed(options.preparing(), tenant) as (_, aws):
            return await count_variants(await aws.of(RECORDS), since=since, until=until)
    async with options.stores(tenant) as stores:
        return await count_variants(stores.get(RECORDS), since=since, until=until)


# --- what the commands share ------------------------------------------------------------------------------
def _deployed(options: GlobalOptions, tenant: str) -> tuple[Deployed, ModelsSection]:
    """Return a deployed tenant and its ``[models]``. Raises ConfigurationError where its file has none."""
    from assistant.terminal.account import Deployed

    deployed = Deployed.named(options, tenant)
    if deployed.config.models is None:
        raise ConfigurationError(f"{tenant} has no [models] section: assistant models use NAME serves one.")
    return deployed, deployed.config.models


def _manifests(models: ModelsSection, name: str) -> tuple[LlmManifest, LlmManifest]:
    """Return the manifests of the served model and of the candidate. Raises ConfigurationError."""
    if models.candidate != name or models.llm is None:
        raise ConfigurationError(
            f'{name} is not declared. Write candidate = "{name}" under [models] of the tenant file, and '
            "deploy: the models stack then has its model and both configurations."
        )
    return LlmManifest.read(_ARTIFACTS / models.llm), LlmManifest.read(_ARTIFACTS / name)


def _canary(deployed: Deployed) -> Canary:
    """Return the tenant's canary. Raises NotFoundError where its models stack declares none,
    DeploymentError for another account's credentials."""
    from assistant.options.models_lab.commands.canary import Canary

    deployed.aws.require()
    if (canary := Canary.of_stack(deployed)) is None:
        advice = "write models.candidate, and deploy"
        raise NotFoundError(f"{deployed.stack('Models')} declares no canary: {advice}.")
    return canary


def _price(models: ModelsSection, candidate: LlmManifest) -> str:
    """Return what the canary's instance costs, from the dated file of prices."""
    prices, instance = load_prices(), models.llm_instance or DEFAULT_INSTANCES[candidate.accelerator]
    price = prices.of("endpoint", instance)
    basis = f"{prices.region}, {prices.date}" + ("" if price.checked else ", an estimate")
    return (
        f"The canary takes one more {instance}: {price.usd_per_hour:.2f} USD an hour, "
        f"{price.usd_per_hour * HOURS_A_MONTH:,.0f} a month ({basis}). "
        "While the endpoint is updated, there and back, a second fleet of all its instances runs too."
    )
