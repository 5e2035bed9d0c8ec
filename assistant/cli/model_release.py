"""``assistant models package``, ``release``, ``rollback``, ``canary``, ``variants``: a tuned model beside the
served one, by the credentials of whoever deploys the tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from assistant.cli.terminal import GlobalOptions, Tenant, Terminal, plain, table
from assistant.domain.errors import ConfigurationError, NotFoundError
from assistant.settings.deployed_names import CANARY_VARIANT, SERVED_VARIANT
from assistant.settings.deployment import ModelsSection, PlaceSection
from assistant.settings.model_artifacts import (
    DEFAULT_INSTANCES,
    LlmManifest,
    check_llm_fit,
    instance_named,
    load_llm_manifest,
)
from assistant.settings.prices import HOURS_A_MONTH, load_prices
from assistant.settings.tenant import TenantConfig, load_tenant

if TYPE_CHECKING:
    from assistant.cli.canary import Canary, EndpointState
    from assistant.learning.variants import VariantCounts

_ARTIFACTS = Path("model_artifacts/llm")
Name = Annotated[str, Option("--name", metavar="NAME", help="Folder under model_artifacts/llm/.")]
Like = Annotated[str, Option("--like", metavar="NAME", help="Artifact whose weights were tuned.")]
Card = Annotated[Path | None, Option("--card", metavar="FILE", help="training.json of the training job.")]
Evaluated = Annotated[
    Path | None, Option("--evaluated", metavar="FILE", help="The same weights as GGUF, as evaluated here.")
]
Report = Annotated[str | None, Option("--evaluation", metavar="NAME", help="Stored run of the candidate.")]
Against = Annotated[str | None, Option("--against", metavar="NAME", help="Stored run of the served model.")]
Percent = Annotated[int, Option("--share", min=1, max=50, metavar="PERCENT", help="Of the LLM's calls.")]
Yes = Annotated[bool, Option("--yes", help="Do not ask after the price is shown.")]


def package(
    context: typer.Context,
    folder: Annotated[Path, Argument(metavar="FOLDER", exists=True, file_okay=False)],
    name: Name,
    like: Like,
    card: Card = None,
    evaluated: Evaluated = None,
    tenant: Annotated[str | None, Option("--tenant", metavar="T", help="Whose bucket --put fills.")] = None,
    put: Annotated[bool, Option("--put", help="Put it into the tenant's models bucket too.")] = False,
) -> None:
    """Make an artifact of a folder of tuned weights: hash, manifest, and with --put the bucket's objects."""
    from assistant.cli import packaging, publishing

    if put and tenant is None:
        raise typer.BadParameter("--put needs --tenant T.")
    terminal = Terminal(steps=True)
    manifest, files = packaging.package(
        folder, name=name, like=_ARTIFACTS / like, card=card, evaluated=evaluated
    )
    Terminal().show(f"{name} = {manifest.sha256}: {_ARTIFACTS / name / 'manifest.toml'}")
    if not put or tenant is None:
        return
    config, place, models = _deployed(GlobalOptions.of(context), tenant)
    aws, outputs = publishing.models_bucket(place, config.name)
    with TemporaryDirectory() as made:
        keys = {f"llm/{name}/{manifest.sha256}/{each}": path for each, path in files.items()}
        if models.llm == name:  # the service reads them at its next start: not before it is the served model
            keys |= packaging.callers_of(manifest, files, into=Path(made))
        publishing.put_artifact(manifest, keys, aws=aws, outputs=outputs, terminal=terminal)


def release(
    context: typer.Context,
    name: Annotated[str, Argument(metavar="NAME", help="The tenant's models.candidate.")],
    tenant: Tenant,
    share: Percent = 5,
    evaluation: Report = None,
    against: Against = None,
    yes: Yes = False,
) -> None:
    """Run a tuned model beside the served one, with a share of the calls. The price is shown first."""
    from assistant.cli.canary import compared
    from assistant.cli.publishing import check_artifact, models_bucket
    from assistant.evaluation.runs import read_run

    options, terminal = GlobalOptions.of(context), Terminal(steps=True)
    config, place, models = _deployed(options, tenant)
    manifests = _manifests(models, name)
    if evaluation is None or against is None:
        raise ConfigurationError(
            "A release rests on an evaluation of both models on the held-out questions. Name both runs: "
            "--evaluation CANDIDATE --against SERVED (assistant evaluate --record FILE --name NAME)."
        )
    runs = [read_run(options.state_dir / "evaluations", each).of(tenant) for each in (against, evaluation)]
    before, after = runs
    if before is None or after is None:
        raise ConfigurationError(f"The evaluations {against} and {evaluation} did not both ask {tenant}.")
    differences = compared(before, after, manifests=manifests)
    for each, one in differences.items():
        terminal.show(
            f"{each}: {one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}], {one.questions} questions"
        )
    for run, manifest in zip((before, after), manifests, strict=True):
        if run.writer_sha256 is None:
            terminal.say(
                f"the evaluation of {manifest.name} names {run.writer!r} and no hash: is it that model?"
            )
    aws, outputs = models_bucket(place, tenant)
    canary = _canary(aws_of=place, tenant=config, terminal=terminal)
    canary.check_free()
    terminal.show(_price(models, manifests[1]))
    if not yes:
        typer.confirm(f"Release {name} to {share} % of the calls of {tenant}?", abort=True, err=True)
    check_artifact(manifests[1], aws=aws, outputs=outputs, terminal=terminal)
    _show(canary.release(share), canary)


def rollback(tenant: Tenant, context: typer.Context) -> None:
    """End the canary: first its share, then its instance. The served model answers all."""
    config, place, _ = _deployed(GlobalOptions.of(context), tenant)
    canary = _canary(aws_of=place, tenant=config, terminal=Terminal(steps=True))
    _show(canary.rollback(), canary)


def canary(tenant: Tenant, context: typer.Context) -> None:
    """Show whether a canary runs beside the served model, and its share of the calls."""
    config, place, _ = _deployed(GlobalOptions.of(context), tenant)
    found = _canary(aws_of=place, tenant=config, terminal=Terminal(steps=True))
    _show(found.state(), found)


def variants(
    context: typer.Context,
    tenant: Tenant,
    hours: Annotated[int, Option("--hours", min=1, max=24 * 90, metavar="N", help="How far back.")] = 168,
    deployed: Annotated[
        bool, Option("--deployed", help="Of a deployment, which ASSISTANT_PREPARE_… names: in its network.")
    ] = False,
) -> None:
    """Count answers, marks, withheld text and failures by variant. Status 1 where the canary is worse."""
    from assistant.learning.variants import FATES, harm_of

    options = GlobalOptions.of(context)
    counts = asyncio.run(_count(options, tenant, hours, deployed=deployed))
    harm = harm_of(counts)
    facts = {
        name: {"answers": one.answers, "digests": sorted(one.digests)}
        | {fate: one.share(fate)._asdict() for fate in FATES}
        for name, one in counts.items()
    }
    if not options.writes({"variants": facts, "worse": harm}):
        rows = [_row(name, counts[name]) for name in sorted(counts)]
        shown = table("variant", "artifact", "answers", *FATES, right=("answers", *FATES), rows=rows)
        Terminal().out.print(shown if rows else plain(f"No model wrote in the last {hours} hours."))
    if harm:
        Terminal().warn(
            f"The canary is worse than the served model ({', '.join(harm)}): "
            f"assistant models rollback --tenant {tenant}",
            "bold red",
        )
        raise typer.Exit(1)


async def _count(
    options: GlobalOptions, tenant: str, hours: int, *, deployed: bool
) -> Mapping[str, VariantCounts]:
    from assistant.learning.variants import count_variants
    from assistant.wiring.feedback import open_deployed_learning

    until = datetime.now(UTC)
    async with AsyncExitStack() as stack:
        if deployed:
            opened = open_deployed_learning(options.preparing(), tenant)
            records = (await stack.enter_async_context(opened)).records
        else:
            records = (await stack.enter_async_context(options.stores(tenant))).records
        return await count_variants(records, since=until - timedelta(hours=hours), until=until)


def _row(name: str, counted: VariantCounts) -> tuple[str, ...]:
    from assistant.learning.variants import FATES

    cells = [counted.share(fate) for fate in FATES]
    digests = ", ".join(one[:12] for one in sorted(counted.digests))
    return (
        name,
        digests,
        str(counted.answers),
        *(f"{one.count}/{one.of} [{one.low:.2f}, {one.high:.2f}]" for one in cells),
    )


# --- what the commands share ------------------------------------------------------------------------------
def _deployed(options: GlobalOptions, tenant: str) -> tuple[TenantConfig, PlaceSection, ModelsSection]:
    """Return a tenant that is deployed, as its file says. Raises ConfigurationError."""
    config = load_tenant(options.tenants_dir / f"{tenant}.toml")
    if config.deployment is None or config.models is None:
        raise ConfigurationError(
            f"{tenant} is only served locally: assistant models use NAME --tenant {tenant}"
        )
    return config, config.deployment, config.models


def _manifests(models: ModelsSection, name: str) -> tuple[LlmManifest, LlmManifest]:
    """Return the manifests of the served model and of the candidate. Raises ConfigurationError."""
    if models.candidate != name:
        raise ConfigurationError(
            f'{name} is not declared. Write candidate = "{name}" under [models] of the tenant file, and '
            "deploy: the models stack then has its model and both configurations."
        )
    candidate = load_llm_manifest(_ARTIFACTS / name)
    if candidate.sha256 is None:
        raise ConfigurationError(f"{name} has no sha256 yet: assistant models package FOLDER --name {name}")
    check_llm_fit(candidate, instance_named(models.llm_instance or DEFAULT_INSTANCES[candidate.accelerator]))
    return load_llm_manifest(_ARTIFACTS / models.llm), candidate


def _canary(*, aws_of: PlaceSection, tenant: TenantConfig, terminal: Terminal) -> Canary:
    from assistant.cli.account import AwsAccount
    from assistant.cli.canary import Canary

    aws = AwsAccount(account=aws_of.account, region=aws_of.region)
    aws.require()
    stack = f"{aws_of.name_prefix}-{tenant.name}-Models"
    found = Canary.of_stack(aws, stack=stack, endpoint=tenant.generation.endpoint, terminal=terminal)
    if found is None:
        raise NotFoundError(
            f"{stack} declares no canary. Write models.candidate into the tenant file, and deploy."
        )
    return found


def _price(models: ModelsSection, candidate: LlmManifest) -> str:
    """Return what the canary's instance costs, from the dated file of prices."""
    prices = load_prices()
    instance = models.llm_instance or DEFAULT_INSTANCES[candidate.accelerator]
    price = prices.of("endpoint", instance)
    return (
        f"The canary takes one more {instance}: {price.usd_per_hour:.2f} USD an hour, "
        f"{price.usd_per_hour * HOURS_A_MONTH:,.0f} a month ({prices.region}, {prices.date}, {price.found}). "
        "While the endpoint is updated, there and back, a second fleet of all its instances runs too."
    )


def _show(state: EndpointState | None, canary: Canary) -> None:
    if state is None:
        text = f"{canary.endpoint}: paused. It resumes with the served model alone."
    elif state.config == canary.canary_config:
        served, share = SERVED_VARIANT, state.canary_percent
        text = f"{canary.endpoint}: {state.status}; {served} {100 - share:g} %, {CANARY_VARIANT} {share:g} %."
    else:
        text = f"{canary.endpoint}: {state.status}; {SERVED_VARIANT} alone."
    if state is not None and state.reason:
        text += f" {state.reason}"
    Terminal().show(text)
