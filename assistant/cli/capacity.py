"""``assistant models capacity``: instances, cost and waiting under a load, by simulation."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from assistant.cli.terminal import GlobalOptions, Tenant, Terminal, table
from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment import ModelsSection
from assistant.settings.model_artifacts import (
    DEFAULT_INSTANCES,
    Instance,
    LlmManifest,
    check_llm_fit,
    instance_named,
    load_llm_manifest,
)
from assistant.settings.prices import load_prices

if TYPE_CHECKING:
    from assistant.capacity.plan import Plan

BUSY = "Hours of a day with this load; the others have a tenth of it."


def capacity(
    context: typer.Context,
    tenant: Tenant,
    questions_per_second: Annotated[float, Option(min=0.001, metavar="N", help="In the busiest hour.")],
    p95_first_token_ms: Annotated[
        float, Option(min=1, metavar="MS", help="95 of 100 questions get a first token within it.")
    ] = 5000.0,
    instance: Annotated[
        str | None,
        Option(metavar="TYPE", help="Default: the tenant's. Another accelerator takes its artifact."),
    ] = None,
    timings: Annotated[
        Path | None, Option(metavar="FILE", help="Measured times (docs/capacity.md). Default: an estimate.")
    ] = None,
    busy_hours: Annotated[int, Option(min=1, max=24, help=BUSY)] = 24,
) -> None:
    """Simulate the LLM endpoint under a load: instances, cost, waiting, twice the load."""
    from assistant.capacity.plan import DEFAULT_LENGTHS, Demand, Question, default_lengths, make_plan
    from assistant.capacity.timings import estimated_timings, load_timings

    options, terminal = GlobalOptions.of(context), Terminal()
    config = options.tenant(tenant)
    if config.models is None or config.deployment is None:
        raise ConfigurationError(f"{tenant}: its file has no [models] and [deployment] to plan for.")
    folder = options.tenants_dir.resolve().parent / "model_artifacts" / "llm"
    manifest, served_on = hardware_of(config.models, folder, instance)
    speed = load_timings(timings) if timings else estimated_timings(manifest, served_on)
    prices = load_prices()
    question = Question(
        demand=Demand(questions_per_second, default_lengths(manifest.sequence_length), busy_hours),
        timings=speed,
        first_token_s=p95_first_token_ms / 1000,
        zones=len(config.deployment.zones),
        usd_per_hour=prices.of("endpoint", served_on.name).usd_per_hour,
    )
    with terminal.waiting("simulating"):
        plan = make_plan(question)
    basis = {
        "artifact": manifest.name,
        "instance": served_on.name,
        "timings": speed.source,
        "lengths": DEFAULT_LENGTHS,
        "prices": f"{prices.region}, {prices.date}, list",
    }
    if options.json:
        terminal.json(basis | asdict(plan))
        return
    for name, value in basis.items():
        terminal.say(f"{name}: {value}")
    _show(terminal, plan, served_on.name)


def hardware_of(models: ModelsSection, folder: Path, instance: str | None) -> tuple[LlmManifest, Instance]:
    """Return the artifact and the instance that serve. Raises ConfigurationError."""
    manifest = load_llm_manifest(folder / models.llm)
    name = instance or models.llm_instance or DEFAULT_INSTANCES[manifest.accelerator]
    served_on = instance_named(name)
    others = (load_llm_manifest(path.parent) for path in sorted(folder.glob("*/manifest.toml")))
    for other in others:
        if (
            manifest.accelerator != served_on.accelerator == other.accelerator
            and other.model == manifest.model
        ):
            manifest = other
    check_llm_fit(manifest, served_on)
    return manifest, served_on


def _show(terminal: Terminal, plan: Plan, instance: str) -> None:
    terminal.show(
        f"{plan.instances} x {instance}: USD {plan.usd_a_month:,.0f} a month "
        f"({plan.usd_a_month_by_hour:,.0f} scaled by the hour), {plan.usd_a_question:.5f} a question."
    )
    right = ("needed", "p50", "p95 first token", "unanswered", "tokens/s")
    shown = table("what happens to them", *right, right=right)
    for each in plan.scenarios:
        shown.add_row(
            each.what,
            "over 200" if each.needed is None else str(each.needed),
            f"{each.p50_s * 1000:,.0f} ms",
            f"{each.p95_s * 1000:,.0f} ms",
            f"{each.unanswered:.1%}",
            f"{each.tokens_per_s:,.0f}",
        )
    terminal.out.print(shown)
