"""``assistant models package`` and ``release``: a tuned model beside the served one, by the
credentials of whoever deploys the tenant."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from assistant.domain.errors import ConfigurationError, ConflictError, NotFoundError
from assistant.options.feedback.commands import Hours, OfDeployment
from assistant.tenant.deployment import ModelsSection
from assistant.tenant.manifests import DEFAULT_INSTANCES, LlmManifest, load_llm_manifest
from assistant.tenant.prices import HOURS_A_MONTH, load_prices
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, plain, table

if TYPE_CHECKING:
    from assistant.options.models_lab.commands.canary import Canary, VariantCounts
    from assistant.terminal.account import Deployed

_ARTIFACTS = Path("model_artifacts/llm")
Weights = Annotated[Path, Argument(metavar="FOLDER", exists=True, file_okay=False)]
NewName = Annotated[str, Option("--name", metavar="NAME", help="Folder under model_artifacts/llm/.")]
Like = Annotated[str, Option(metavar="NAME", help="Artifact whose weights were tuned.")]
Card = Annotated[Path | None, Option(metavar="FILE", help="training.json of the training job.")]
Evaluated = Annotated[Path | None, Option(metavar="FILE", help="The same weights, as evaluated (GGUF).")]
PutInto = Annotated[str | None, Option(metavar="T", help="Tenant whose bucket gets it, as its publisher.")]
Candidate = Annotated[str, Argument(metavar="[NAME]", help="The tenant's models.candidate.")]
Back = Annotated[bool, Option("--back", help="End the canary: its share, then its instance.")]
Report = Annotated[str | None, Option(metavar="NAME", help="Stored run of the candidate.")]
Against = Annotated[str | None, Option(metavar="NAME", help="Stored run of the served model.")]
Percent = Annotated[int, Option(min=1, max=50, metavar="PERCENT", help="Of the LLM's calls.")]
Counts = Annotated[
    bool,
    Option("--counts", help="Count each variant's answers by their fate. Status 1: the canary is worse."),
]
Yes = Annotated[bool, Option("--yes", help="Do not ask after the price is shown.")]


def package(
    context: typer.Context,
    folder: Weights,
    name: NewName,
    like: Like,
    card: Card = None,
    evaluated: Evaluated = None,
    put: PutInto = None,
) -> None:
    """Make an artifact of a folder of tuned weights: its hash and manifest, and with --put the objects."""
    from assistant.options.models_lab.commands import packaging
    from assistant.terminal import publishing

    like_folder = _ARTIFACTS / like
    manifest, files = packaging.package(folder, name=name, like=like_folder, card=card, evaluated=evaluated)
    Terminal().show(f"{name} = {manifest.sha256}: {_ARTIFACTS / name / 'manifest.toml'}")
    if put is None:
        return
    deployed, models = _deployed(GlobalOptions.of(context), put)
    with TemporaryDirectory() as made:
        keys = {f"llm/{name}/{manifest.sha256}/{each}": path for each, path in files.items()}
        if models.llm == name:  # the service reads them at its next start: not before it is the served model
            keys |= packaging.callers_of(manifest, files, into=Path(made))
        terminal = Terminal(steps=True)
        publishing.upload(deployed, keys, terminal)
        publishing.check_artifact(manifest, deployed=deployed, terminal=terminal)


def release(
    context: typer.Context,
    tenant: Tenant,
    name: Candidate = "",
    share: Percent = 5,
    evaluation: Report = None,
    against: Against = None,
    yes: Yes = False,
    back: Back = False,
    counts: Counts = False,
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
    kept = options.state_dir / "evaluations"
    before, after = (read_run(kept, each).of(tenant) for each in (against, evaluation))
    if before is None or after is None:
        raise ConfigurationError(f"The evaluations {against} and {evaluation} did not both ask {tenant}.")
    for each, one in compared(before, after, manifests=manifests).items():
        terminal.show(
            f"{each}: {one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}], {one.questions} questions"
        )
    for run in (before, after):
        if run.writer_sha256 is None:
            terminal.say(f"the evaluation of {run.writer!r} names no hash: is it of the right model?")


def _show_counts(options: GlobalOptions, tenant: str, hours: int, *, deployed: bool) -> None:
    """Show answers, marks, withheld text and failures by variant. Status 1 where the canary is worse."""
    from assistant.options.models_lab.commands.canary import FATES, harm_of

    counts = asyncio.run(_count(options, tenant, hours, deployed=deployed))
    worse = harm_of(counts)
    shares = {name: {fate: one.share(fate) for fate in FATES} for name, one in sorted(counts.items())}
    if not options.writes({"shares": shares, "worse": worse}):
        rows = [
            (name, counts[name].shown_digests, str(counts[name].answers), *map(str, of.values()))
            for name, of in shares.items()
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
    """Return a tenant that is deployed, as its file says. Raises ConfigurationError."""
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
    return load_llm_manifest(_ARTIFACTS / models.llm), load_llm_manifest(_ARTIFACTS / name)


def _canary(deployed: Deployed) -> Canary:
    """Raises NotFoundError where the tenant's stack declares no canary."""
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
