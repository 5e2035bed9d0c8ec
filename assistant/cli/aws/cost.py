"""``assistant aws cost``: what tenants cost a month and a thousand questions, off their templates.

With a load also how many LLM instances answer it in time, by simulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from assistant.cli.aws.bill import STATES, Bill, BillLine, State, make_bill
from assistant.cli.aws.cdk import IMAGE_LOCK, CdkCommand, ImageLockFile
from assistant.domain.errors import ConfigurationError
from assistant.tenant.manifests import DEFAULT_INSTANCES, check_llm_fit, instance_named, load_llm_manifest
from assistant.tenant.prices import HOURS_A_MONTH, Prices, load_prices
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.account import place_of
from assistant.terminal.terminal import GlobalOptions, Terminal, table
from template_checks.upgrades import templates_by_stack_name

if TYPE_CHECKING:
    from assistant.cli.aws.plan import Plan, Question

_SECONDS_A_MONTH = HOURS_A_MONTH * 3600
_LARGEST = 3


def cost(
    context: typer.Context,
    tenants: Annotated[list[str], Argument(metavar="TENANT…", help="One column each.")],
    questions_per_month: Annotated[
        float | None, Option(min=1, metavar="N", help="Default: of the price file.")
    ] = None,
    questions_per_second: Annotated[
        float | None, Option(min=0.0001, metavar="N", help="Of a busy hour; shows what happens to them.")
    ] = None,
    p95_first_token_ms: Annotated[
        float, Option(min=1, metavar="MS", help="95 of 100 questions get a first token within it.")
    ] = 5000.0,
    timings: Annotated[
        Path | None, Option(metavar="FILE", help="Measured times (docs/capacity.md). Default: an estimate.")
    ] = None,
    assembly: Annotated[
        Path | None, Option(metavar="DIR", help="Read these templates: cdk.out. Default: synthesize.")
    ] = None,
    images: ImageLockFile = IMAGE_LOCK,
) -> None:
    """Show a month's cost by the dated price file: paused, on, under a load; per 1,000 questions."""
    from assistant.cli.aws.plan import DEFAULT_LENGTHS, Demand, make_plan

    options, terminal, prices = GlobalOptions.of(context), Terminal(), load_prices()
    share = Demand(1.0, (), prices.load.busy_hours).mean(1.0, 0.1)
    questions = questions_per_month or prices.load.questions_a_month
    if questions_per_second is not None:
        if questions_per_month is not None:
            raise typer.BadParameter("Give --questions-per-month or --questions-per-second, not both.")
        questions = questions_per_second * share * _SECONDS_A_MONTH
    bills: dict[str, Bill] = {}
    plans: dict[str, Plan] = {}
    notes = [
        f"list prices of {prices.region}, {prices.date}, for each tenant; no taxes, discounts or free tiers",
        "paused, on: without questions; quoted: no LLM runs; written: the LLM writes every answer",
        f"{prices.load.busy_hours} busy hours a day, the others with a tenth of their load; the least tasks",
        "amounts of a question, and why: [[use]] of the price file, or --json",
    ]
    for name in tenants:
        config = options.tenant(name)
        place = place_of(config, options.tenants_dir / f"{name}.toml")
        cdk = CdkCommand(root=Path.cwd(), tenant=name, tenants_dir=options.tenants_dir, images=images)
        templates = _templates(
            cdk, terminal, None if assembly is None else assembly / f"assembly-{config.stage_id}"
        )
        question, instance = _question(
            config,
            options.tenants_dir,
            prices,
            rate=questions / share / _SECONDS_A_MONTH,
            first_token_s=p95_first_token_ms / 1000,
            timings=timings,
        )
        needed, note = _llm_instances(config, question, instance)
        if questions_per_second is not None and question is not None:
            plans[name] = make_plan(question)
            note += f"; {DEFAULT_LENGTHS}"
        notes.append(f"{name}, {place.region}: {note}")
        bills[name] = make_bill(templates, prices, questions=questions, llm_instances=needed)
    guessed = {line.price for bill in bills.values() for line in bill.lines if not line.checked}
    notes.append(f"prices that no page confirmed: {', '.join(sorted(guessed)) or 'none'}")
    if options.writes(_as_data(bills, prices, notes) | {"plans": plans}):
        return
    terminal.out.print(table("USD a month", *bills, right=tuple(bills), rows=rows_of(bills)))
    for name, plan in plans.items():
        _show_plan(terminal, name, plan)
    for note in notes:
        terminal.say(note)


def _templates(cdk: CdkCommand, terminal: Terminal, stage: Path | None) -> list[Mapping[str, Any]]:
    """Return a tenant's templates: those of a folder, else synthesized."""
    if stage is None:
        terminal.say(f"synthesizing {cdk.tenant}")
        cdk.synth()
    return list(templates_by_stack_name(stage or cdk.stage).values())


def _question(
    config: TenantConfig,
    tenants_dir: Path,
    prices: Prices,
    *,
    rate: float,
    first_token_s: float,
    timings: Path | None,
) -> tuple[Question | None, str]:
    """Return what the LLM's instances are planned for, None where its times are not known; and their type.

    Raises ConfigurationError.
    """
    from assistant.cli.aws.plan import Demand, Question, default_lengths
    from assistant.cli.aws.timings import estimated_timings, load_timings

    models, place = config.models, config.deployment
    if models is None or place is None:
        raise ConfigurationError(f"{config.name}: its file has no [models] and [deployment].")
    manifest = load_llm_manifest(tenants_dir.resolve().parent / "model_artifacts" / "llm" / models.llm)
    instance = instance_named(models.llm_instance or DEFAULT_INSTANCES[manifest.accelerator])
    check_llm_fit(manifest, instance)
    try:
        speed = load_timings(timings) if timings else estimated_timings(manifest, instance)
    except ConfigurationError:
        if timings is not None:
            raise
        return None, instance.name
    question = Question(
        demand=Demand(rate, default_lengths(manifest.sequence_length), prices.load.busy_hours),
        timings=speed,
        first_token_s=first_token_s,
        zones=len(place.zones),
        usd_per_hour=prices.of("endpoint", instance.name).usd_per_hour,
    )
    return question, instance.name


def _llm_instances(config: TenantConfig, question: Question | None, instance: str) -> tuple[int, str]:
    """Return the fewest LLM instances that answer the busy hour in time, and on what that rests."""
    from assistant.cli.aws.plan import instances_needed

    assert config.models is not None  # noqa: S101 - _question refused it
    least, most = config.models.min_instances, config.models.max_instances
    if question is None:
        return least, f"{instance}: no timings are known, so the load is not checked; {least} taken"
    needed, rate = instances_needed(question, 1.0), question.demand.questions_per_s
    if needed is None or needed > most:
        return most, f"{rate:.2g} questions a second need more than max_instances = {most} of {instance}"
    least = max(needed, least)
    return least, f"{rate:.2g} questions a second: {least} x {instance} write ({question.timings.source})"


def _show_plan(terminal: Terminal, tenant: str, plan: Plan) -> None:
    terminal.show(
        f"{tenant}: {plan.instances} LLM instances answer while a zone is lost: USD {plan.usd_a_month:,.0f} "
        f"a month ({plan.usd_a_month_by_hour:,.0f} scaled by the hour)."
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


def _as_data(bills: Mapping[str, Bill], prices: Prices, notes: list[str]) -> dict[str, Any]:
    basis = {"region": prices.region, "date": prices.date, "notes": notes}
    assumed = [use.model_dump(mode="json") for use in prices.use]
    return basis | {"assumed": assumed, "tenants": {name: _bill_data(bill) for name, bill in bills.items()}}


def _bill_data(bill: Bill) -> dict[str, Any]:
    def months(of: Bill | BillLine) -> dict[State, float]:
        return {state: of.month(state) for state in STATES}

    return {
        "questions": bill.questions,
        "usd_a_month": months(bill),
        "usd_per_1000_questions": {state: bill.thousand(state) for state in STATES[2:]},
        "largest": [f"{line.part}: {line.name}" for line in bill.largest("written", count=_LARGEST)],
        "lines": [asdict(line) | {"usd_a_month": months(line)} for line in bill.lines],
    }


def rows_of(bills: Mapping[str, Bill]) -> Iterator[list[str]]:
    """Yield rows with a column for each bill: its states, 1,000 questions, largest lines, parts."""
    columns = list(bills.values())
    asked = f"{columns[0].questions:,.0f} questions"
    titles = ("paused", "on, without questions", f"{asked}, quoted", f"{asked}, written")
    for state, title in zip(STATES, titles, strict=True):
        yield [title, *(f"{bill.month(state):,.0f}" for bill in columns)]
    for state in ("quoted", "written"):
        yield [f"1,000 questions, {state}", *(f"{bill.thousand(state):,.2f}" for bill in columns)]
    for place in range(_LARGEST):
        lines = (bill.largest("written", count=_LARGEST)[place] for bill in columns)
        named = (f"{line.part}: {line.name} {line.month('written'):,.0f}" for line in lines)
        yield [f"largest line {place + 1}", *named]
    for part in dict.fromkeys(line.part for bill in columns for line in bill.lines):
        yield [f"of it {part}", *(f"{bill.month('written', part=part):,.2f}" for bill in columns)]
