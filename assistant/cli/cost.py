"""``assistant aws cost``: what tenants cost a month and a thousand questions, off their templates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from assistant.capacity.bill import STATES, Bill, BillLine, State, make_bill
from assistant.cli.account import place_of
from assistant.cli.capacity import hardware_of
from assistant.cli.cdk import IMAGE_LOCK, CdkCommand, ImageLockFile
from assistant.cli.terminal import GlobalOptions, Terminal, table
from assistant.domain.errors import ConfigurationError
from assistant.settings.prices import HOURS_A_MONTH, Prices, load_prices
from assistant.settings.tenant import TenantConfig
from template_checks.upgrades import templates_by_stack_name

_SECONDS_A_MONTH = HOURS_A_MONTH * 3600
_FIRST_TOKEN_S = 5.0
_LARGEST = 3


def cost(
    context: typer.Context,
    tenants: Annotated[list[str], Argument(metavar="TENANT…", help="One column each.")],
    questions_per_month: Annotated[
        float | None, Option(min=1, metavar="N", help="Default: of the price file.")
    ] = None,
    questions_per_second: Annotated[
        float | None, Option(min=0.0001, metavar="N", help="Of a busy hour, instead of a month's.")
    ] = None,
    assembly: Annotated[
        Path | None, Option(metavar="DIR", help="Read these templates: cdk.out. Default: synthesize.")
    ] = None,
    images: ImageLockFile = IMAGE_LOCK,
) -> None:
    """Show a month's cost by the dated price file: paused, on, under a load; per 1,000 questions."""
    from assistant.capacity.plan import Demand

    options, terminal, prices = GlobalOptions.of(context), Terminal(), load_prices()
    share = Demand(1.0, (), prices.load.busy_hours).mean(1.0, 0.1)
    questions = questions_per_month or prices.load.questions_a_month
    if questions_per_second is not None:
        if questions_per_month is not None:
            raise typer.BadParameter("Give --questions-per-month or --questions-per-second, not both.")
        questions = questions_per_second * share * _SECONDS_A_MONTH
    bills: dict[str, Bill] = {}
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
        if assembly is None:
            terminal.say(f"synthesizing {name}")
            cdk.synth()
        stage = cdk.stage if assembly is None else assembly / f"assembly-{config.stage_id}"
        templates = list(templates_by_stack_name(stage).values())
        needed, note = _llm_instances(
            config, options.tenants_dir, prices, rate=questions / share / _SECONDS_A_MONTH
        )
        notes.append(f"{name}, {place.region}: {note}")
        bills[name] = make_bill(templates, prices, questions=questions, llm_instances=needed)
    guessed = {line.price for bill in bills.values() for line in bill.lines if not line.checked}
    notes.append(f"prices that no page confirmed: {', '.join(sorted(guessed)) or 'none'}")
    if options.writes(_as_data(bills, prices, notes)):
        return
    terminal.out.print(table("USD a month", *bills, right=tuple(bills), rows=rows_of(bills)))
    for note in notes:
        terminal.say(note)


def _llm_instances(
    config: TenantConfig, tenants_dir: Path, prices: Prices, *, rate: float
) -> tuple[int, str]:
    """Return the fewest LLM instances that answer the busy hour in time, and on what that rests."""
    from assistant.capacity.plan import Demand, Question, default_lengths, instances_needed
    from assistant.capacity.timings import estimated_timings

    if config.models is None:
        raise ConfigurationError(f"{config.name}: its file has no [models].")
    folder = tenants_dir.resolve().parent / "model_artifacts" / "llm"
    manifest, instance = hardware_of(config.models, folder, None)
    try:
        timings = estimated_timings(manifest, instance)
    except ConfigurationError:
        least = config.models.min_instances
        return least, f"{instance.name}: no timings are known, so the load is not checked; {least} taken"
    question = Question(
        demand=Demand(rate, default_lengths(manifest.sequence_length), prices.load.busy_hours),
        timings=timings,
        first_token_s=_FIRST_TOKEN_S,
        zones=1,  # the fewest instances; a lost zone is for `assistant models capacity`
        usd_per_hour=prices.of("endpoint", instance.name).usd_per_hour,
    )
    needed, most = instances_needed(question, 1.0), config.models.max_instances
    if needed is None or needed > most:
        return most, f"{rate:.2g} questions a second need more than max_instances = {most} of {instance.name}"
    least = max(needed, config.models.min_instances)
    return least, f"{rate:.2g} questions a second: {least} x {instance.name} write ({timings.source})"


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
