"""``assistant aws cost``: what tenants cost a month and per 1,000 questions, computed from their templates.

Each bill has four states, as columns of numbers in USD a month (``STATES``):

    paused                          no endpoint runs
    on, without questions           all that the templates begin with runs, in the hours of ``[power]``
    1,000,000 questions, quoted     the LLM's endpoint does not run; answers are sections of documents
    1,000,000 questions, written    as many LLM instances run as the load needs

The probe of the care side asks in each of them.

With --questions-per-second, a formula (``LlmSpeed``) says how many instances the load and twice the load
need, and how long a question waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, log
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import typer
from typer import Argument, Option

from assistant.cli.aws.templates import CdkCommand
from assistant.domain.errors import ConfigurationError
from assistant.tenant.manifests import (
    DEFAULT_INSTANCES,
    Instance,
    LlmManifest,
    check_llm_fit,
    instance_named,
    memory_of,
)
from assistant.tenant.prices import FILE, AssumedLoad, Kind, ModelCall, Prices, load_prices
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.account import place_of
from assistant.terminal.terminal import GlobalOptions, Terminal, table
from template_checks.priced import EMBEDDING, LLM, PRICED, Line, priced, resource_types
from template_checks.upgrades import templates_by_stack_name

_LARGEST = 3
"""Lines of a bill that are shown by name, the dearest first."""


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
    assembly: Annotated[
        Path | None, Option(metavar="DIR", help="Read these templates: cdk.out. Default: synthesize.")
    ] = None,
) -> None:
    """Show a month's cost by the dated price file: paused, on, under a load; per 1,000 questions."""
    options, terminal, prices = GlobalOptions.of(context), Terminal(), load_prices()
    questions = questions_per_month or prices.load.questions_a_month
    if questions_per_second is not None:
        if questions_per_month is not None:
            raise typer.BadParameter("Give --questions-per-month or --questions-per-second, not both.")
        questions = questions_per_second / prices.load.busy_rate(1)
    bills: dict[str, Bill] = {}
    plans: dict[str, list[LoadRow]] = {}
    cheaper: dict[str, list[CheaperKey]] = {}
    notes = [
        f"list prices of {prices.region}, {prices.date}, or of a tenant's region where the file has them; no "
        "taxes, discounts or free tiers",
        "paused, on: only the probe asks; quoted: no LLM runs; written: the LLM writes every answer",
        f"{prices.load.busy_hours} busy hours a day, the others with a tenth of their load; the least tasks",
        "amounts of a question, and why: [[use]] of the price file, or --json",
    ]
    for name in tenants:
        config = options.tenant(name)
        place = place_of(config, options.tenants_dir / f"{name}.toml")
        cdk = CdkCommand(root=Path.cwd(), tenant=name, tenants_dir=options.tenants_dir)
        templates = _templates(
            cdk, terminal, None if assembly is None else assembly / f"assembly-{config.stage_id}"
        )
        speed = _llm_speed(config, options.tenants_dir, prices.load)
        rate = prices.load.busy_rate(questions)
        within_s = p95_first_token_ms / 1000
        llm_instances, note = _llm_instances(config, speed, rate=rate, within_s=within_s)
        if questions_per_second is not None and speed is not None:
            plans[name] = [
                speed.under(rate * times, within_s=within_s, running=llm_instances) for times in (1, 2)
            ]
            note += f"; {_lengths(prices.load)}"
        hours = config.endpoint_hours_share
        notes.append(f"{name}, {place.region}: {note}; endpoints run in {hours:.0%} of the hours ([power])")
        tenant_prices = prices.of_tenant(config)
        bills[name] = make_bill(
            templates, tenant_prices, questions=questions, llm_instances=llm_instances, hours_share=hours
        )
        cheaper[name] = cheaper_keys(bills[name], tenant_prices, config)
    guessed = {line.price for bill in bills.values() for line in bill.lines if not line.checked}
    notes.append(f"prices that no page confirmed: {', '.join(sorted(guessed)) or 'none'}")
    basis = {"region": prices.region, "date": prices.date, "notes": notes}
    basis |= {"assumed": [assumed_use.model_dump(mode="json") for assumed_use in prices.use]}
    if options.writes(
        basis
        | {"tenants": {name: _as_data(bill) for name, bill in bills.items()}, "plans": plans}
        | {"cheaper": {name: [asdict(key) for key in keys] for name, keys in cheaper.items()}}
    ):
        return
    terminal.out.print(table("USD a month", *bills, right=tuple(bills), rows=rows_of(bills)))
    _show_cheaper(terminal, cheaper)
    _show_plans(terminal, plans)
    for note in notes:
        terminal.say(note)


def _templates(cdk: CdkCommand, terminal: Terminal, stage: Path | None) -> list[Mapping[str, Any]]:
    """Return a tenant's templates: those of the folder ``stage``; synthesized where it is None."""
    if stage is None:
        terminal.say(f"synthesizing {cdk.tenant}")
        cdk.synth()
    return list(templates_by_stack_name(stage or cdk.stage).values())


def _lengths(load: AssumedLoad) -> str:
    """Return what is assumed of a question: "a question is 5 calls: prompts of 11,546 tokens, …"."""
    prompts, written = (
        sum(getattr(call, name) for call in load.calls.values())
        for name in ("prompt_tokens", "written_tokens")
    )
    return f"a question is {len(load.calls)} calls: prompts of {prompts:,} tokens, {written} tokens written"


_DEVICES: Mapping[str, tuple[float, float]] = {
    # family: bytes a second and floating-point operations a second (bfloat16, dense) of one core or GPU.
    # AWS Neuron documentation, Inferentia2 and Trainium Architecture: 820 GiB/s and 190 TFLOPS for two cores.
    # NVIDIA's data sheets: L4 300 GB/s and 121 TFLOPS, L40S 864 GB/s and 362 (read 2026-11-23). Of the A10G,
    # made for AWS, only the bandwidth was found (600 GB/s, as of the A10); its 70 TFLOPS are not confirmed.
    "inf2": (440e9, 95e12),
    "trn1": (440e9, 95e12),
    "g5": (600e9, 70e12),
    "g6": (300e9, 121e12),
    "g6e": (864e9, 362e12),
}
_BANDWIDTH_SHARE, _COMPUTE_SHARE = 0.6, 0.4
"""Assumed, not measured: what a serving engine gets out of a data sheet's figures."""
_LATEST = log(1 / 0.05)
"""A wait that 95 of 100 exponential waits stay below, as a multiple of their mean."""


@dataclass(frozen=True, slots=True)
class LoadRow:
    """What a load of questions meets. Seconds are estimates."""

    questions_per_s: float
    needed: int | None
    """Instances that give 95 of 100 questions a first token in time; None: no number does."""
    p95_first_token_s: float | None
    """On the instances that the bill counts; None where they cannot keep up."""


@dataclass(frozen=True, slots=True)
class LlmSpeed:
    """How fast one instance answers, by its data sheet (docs/decisions/0079).

    A question holds an instance for ``question_s``, its share of a full batch. With a utilization u the mean
    wait is that of M/M/1, ``u / (1 - u) * question_s``.
    """

    instance: str
    read_s: float
    """Seconds until an answer's prompt is read and its first token written, on an idle instance."""
    question_s: float
    """All calls for a question."""

    @classmethod
    def of(cls, manifest: LlmManifest, instance: Instance, load: AssumedLoad) -> Self | None:
        """Return the estimate; None for a processor, whose speed no data sheet tells."""
        device = _DEVICES.get(instance.name.split(".")[1])
        if device is None:
            return None
        bandwidth = device[0] * _BANDWIDTH_SHARE * manifest.tensor_parallel
        flops = device[1] * _COMPUTE_SHARE * manifest.tensor_parallel
        token_bytes = memory_of(manifest).cache / (manifest.batch_size * manifest.sequence_length)
        step_s = manifest.weights_bytes / bandwidth  # all weights are read for a step, however many it writes

        def prompt_s(call: ModelCall) -> float:
            return call.prompt_tokens * 2 * manifest.parameters / flops

        def call_s(call: ModelCall) -> float:
            context_s = (call.prompt_tokens + call.written_tokens / 2) * token_bytes / bandwidth
            return prompt_s(call) + call.written_tokens * (step_s / manifest.batch_size + context_s)

        question_s = sum(call_s(call) for call in load.calls.values())
        return cls(instance.name, prompt_s(load.calls["answer"]) + step_s, question_s)

    def needed(self, rate: float, *, within_s: float) -> int | None:
        """Return the fewest instances with which 95 of 100 questions get a first token in time. ``rate``:
        questions a second."""
        most_wait_s = (within_s - self.read_s) / _LATEST
        if most_wait_s <= 0:
            return None
        return max(1, ceil(rate * self.question_s * (1 + self.question_s / most_wait_s)))

    def under(self, rate: float, *, within_s: float, running: int) -> LoadRow:
        """Return what a load meets on ``running`` instances."""
        utilization = rate * self.question_s / max(running, 1)
        first_s = None
        if utilization < 1:
            first_s = self.read_s + _LATEST * utilization / (1 - utilization) * self.question_s
        return LoadRow(rate, self.needed(rate, within_s=within_s), first_s)


def _llm_speed(config: TenantConfig, tenants_dir: Path, load: AssumedLoad) -> LlmSpeed | None:
    """Return the speed of the tenant's LLM on its instance; None without an endpoint of its own, or on a
    processor. Raises ConfigurationError."""
    models = config.models
    if not config.has_llm_endpoint:
        return None
    if models is None or models.llm is None or config.deployment is None:
        raise ConfigurationError(f"{config.name}: its file has no [models] with an llm, or no [deployment].")
    manifest = LlmManifest.read(tenants_dir.resolve().parent / "model_artifacts" / "llm" / models.llm)
    instance = instance_named(models.llm_instance or DEFAULT_INSTANCES[manifest.accelerator])
    check_llm_fit(manifest, instance)
    return LlmSpeed.of(manifest, instance, load)


def _llm_instances(
    config: TenantConfig, speed: LlmSpeed | None, *, rate: float, within_s: float
) -> tuple[int, str]:
    """Return the fewest LLM instances that answer the busy hour in time, and a note on how that is known.

    Never fewer than the tenant's ``min_instances``, never more than its ``max_instances``. ``rate``:
    questions a second.
    """
    if not config.has_llm_endpoint:
        return 0, f"{config.generation.model} is paid by token; no LLM endpoint"
    assert config.models is not None  # noqa: S101 - _llm_speed raises for such a tenant
    fewest, most = config.models.min_instances, config.models.max_instances
    if speed is None:
        return fewest, f"no speed of the LLM's instance is known, so the load is not checked; {fewest} taken"
    needed = speed.needed(rate, within_s=within_s)
    if needed is None or needed > most:
        return (
            most,
            f"{rate:.2g} questions a second need more than max_instances = {most} of {speed.instance}",
        )
    fewest = max(needed, fewest)
    return (
        fewest,
        f"{rate:.2g} questions a second: {fewest} x {speed.instance} write (estimated by its data sheet)",
    )


def _show_plans(terminal: Terminal, plans: Mapping[str, Sequence[LoadRow]]) -> None:
    """Print what the load and twice the load of each tenant need and meet."""
    right = ("questions/s", "instances", "p95 first token")
    for tenant, plan in plans.items():
        rows = table(f"{tenant}: LLM", *right, right=right)
        for title, row in zip(("the load", "twice the load"), plan, strict=True):
            count = "none is enough" if row.needed is None else str(row.needed)
            first = "never" if row.p95_first_token_s is None else f"{row.p95_first_token_s * 1000:,.0f} ms"
            rows.add_row(title, f"{row.questions_per_s:.2g}", count, first)
        terminal.out.print(rows)


def _show_cheaper(terminal: Terminal, cheaper: Mapping[str, Sequence[CheaperKey]]) -> None:
    """Print what each cheaper key of a tenant saves and gives up."""
    right = ("saves USD a month",)
    for tenant, keys in cheaper.items():
        rows = [[key.key, f"{key.saves_usd:,.0f}", key.gives_up] for key in keys]
        terminal.out.print(table(f"{tenant}: cheaper by", *right, "gives up", right=right, rows=rows))


def _as_data(bill: Bill) -> dict[str, Any]:
    """Return a bill as --json prints it; the cost per 1,000 questions only in the states with questions."""

    def months(bill_or_line: Bill | BillLine) -> dict[State, float]:
        return {state: bill_or_line.month(state) for state in STATES}

    return {
        "questions": bill.questions,
        "usd_a_month": months(bill),
        "usd_per_1000_questions": {state: bill.thousand(state) for state in STATES[2:]},
        "largest": [f"{line.part}: {line.name}" for line in bill.largest],
        "lines": [asdict(line) | {"usd_a_month": months(line)} for line in bill.lines],
    }


def rows_of(bills: Mapping[str, Bill]) -> Iterator[list[str]]:
    """Yield the table's rows, each a title and then one cell a bill: its states, 1,000 questions, largest
    lines, parts. Example: ``["paused", "1,204", "986"]``.
    """
    columns = list(bills.values())
    question_count = f"{columns[0].questions:,.0f} questions"
    titles = ("paused", "on, without questions", f"{question_count}, quoted", f"{question_count}, written")
    for state, title in zip(STATES, titles, strict=True):
        yield [title, *(f"{bill.month(state):,.0f}" for bill in columns)]
    for state in ("quoted", "written"):
        yield [f"1,000 questions, {state}", *(f"{bill.thousand(state):,.2f}" for bill in columns)]
    for rank in range(_LARGEST):
        lines = (bill.largest[rank] for bill in columns)
        cells = (f"{line.part}: {line.name} {line.month('written'):,.0f}" for line in lines)
        yield [f"largest line {rank + 1}", *cells]
    for part in dict.fromkeys(line.part for bill in columns for line in bill.lines):
        yield [f"of it {part}", *(f"{bill.month('written', part=part):,.2f}" for bill in columns)]


State = Literal["paused", "on", "quoted", "written"]
STATES: tuple[State, ...] = ("paused", "on", "quoted", "written")
"""Paused; on, where only the probe asks; all answers quoted, where no LLM runs; all answers written by the
LLM."""


@dataclass(frozen=True, slots=True)
class BillLine:
    """One line of a bill.

    Example: 1,460 hours of two instances at USD 1.21 an hour: ``BillLine("LLM endpoint", "ml.g6.xlarge",
    "ml.g6.xlarge", 1.21, 1, True, {"paused": 0.0, "on": 1460.0, …})``.
    """

    part: str
    """Heading under which lines are added up: ``LLM endpoint``, ``Search``."""
    name: str
    """What is paid, as the table shows it."""
    price: str
    """Name of its price in the price file."""
    usd: float
    """Price of ``units`` units."""
    units: int
    checked: bool
    """Whether a page of AWS confirmed the price (``Price.checked``)."""
    quantity: Mapping[State, float]
    """Units a month, by state."""

    def month(self, state: State) -> float:
        """Return USD a month."""
        return self.quantity[state] * self.usd / self.units


@dataclass(frozen=True, slots=True)
class Bill:
    """What one tenant pays a month, in each state."""

    questions: float
    """A month, in the states ``quoted`` and ``written``."""
    lines: tuple[BillLine, ...]

    def month(self, state: State, *, part: str | None = None) -> float:
        """Return USD a month of one part, or of all."""
        return sum(line.month(state) for line in self.lines if part is None or line.part == part)

    def thousand(self, state: State) -> float:
        """Return USD per 1,000 questions: the whole month's bill, fixed costs included, divided by its
        questions."""
        return self.month(state) / self.questions * 1000

    @property
    def largest(self) -> list[BillLine]:
        """Return what costs most where all answers are written."""
        return sorted(self.lines, key=lambda line: line.month("written"), reverse=True)[:_LARGEST]


def make_bill(
    templates: Sequence[Mapping[str, Any]],
    prices: Prices,
    *,
    questions: float,
    llm_instances: int = 1,
    hours_share: float = 1.0,
) -> Bill:
    """Return the bill of one tenant's templates.

    ``questions``: a month's. ``llm_instances``: what the load needs; counts only where it is more than the
    templates begin with. ``hours_share``: of the hours, in which endpoints run.
    Raises ConfigurationError for a resource type or an instance without a price.
    """
    types = resource_types(templates)
    priced_types = prices.free | PRICED.keys() | {use.resource_type for use in prices.use}
    if unknown := sorted(types.keys() - priced_types):
        raise ConfigurationError(
            f"{FILE}: no price is known of {', '.join(unknown)}. Add a [[use]] with that `resource_type`, or "
            "a row of `free`."
        )
    # (part, name, kind of price, name of price): units a month by state
    amounts: dict[tuple[str, str, Kind, str], dict[State, float]]
    amounts = defaultdict(lambda: dict.fromkeys(STATES, 0.0))
    fixed_lines = list(priced(templates))
    # LLM instances that the templates begin with
    started = sum(line.amount for line in fixed_lines if line.part == LLM and line.kind == "endpoint")
    growth = max(1.0, llm_instances / started) if started else 1.0
    for line in fixed_lines:
        amount = line.amount * prices.of(line.kind, line.name).units_a_month
        for state in STATES:
            share = _share(line, state, growth) * (hours_share if line.only_on else 1.0)
            amounts[line.part, line.name, line.kind, line.name][state] += amount * share
    for use in prices.use:
        if resource_count := types[use.resource_type]:
            without_questions = use.amount_a_month * (resource_count if use.per_resource else 1)
            more, more_probe = use.more_per_written_answer, use.more_per_written_probe
            for state in STATES:
                agents = questions if state in ("quoted", "written") else 0.0
                probe = prices.load.probe_questions_a_month
                units = without_questions + (agents + probe) * use.per_question
                if state in ("on", "written"):
                    units += agents * more + probe * hours_share * (
                        more if more_probe is None else more_probe
                    )
                amounts[use.part, use.name, "unit", use.price][state] += units
    return Bill(questions, tuple(_lines(amounts, prices)))


def _lines(
    amounts: Mapping[tuple[str, str, Kind, str], Mapping[State, float]], prices: Prices
) -> Iterator[BillLine]:
    """Yield a line for each entry of ``make_bill``'s amounts that is not zero in every state."""
    for (part, name, kind, price_name), by_state in amounts.items():
        price = prices.of(kind, price_name)
        if any(by_state.values()):
            yield BillLine(part, name, price_name, price.usd, price.units, price.checked, by_state)


def _share(line: Line, state: State, growth: float) -> float:
    """Return the factor on a line of the templates in a state: 0 where it does not run, ``growth`` for the
    LLM's lines where the load needs more instances (``written``), else 1."""
    if (state == "paused" and line.only_on) or (state == "quoted" and line.part == LLM):
        return 0.0
    return growth if state == "written" and line.part == LLM else 1.0


@dataclass(frozen=True, slots=True)
class CheaperKey:
    """A key of the tenant file that makes a bill smaller, with what is lost by it."""

    key: str
    saves_usd: float
    """USD a month, where all answers are written."""
    gives_up: str


_SMALL_NODE, _SMALL_VOLUME_GIB, _SMALL_TASK = "m7g.medium.search", 20, 512
_WORKING_HOURS = 50 / 168
"""Ten hours of each working day, of a week's."""


def cheaper_keys(bill: Bill, prices: Prices, tenant: TenantConfig) -> list[CheaperKey]:
    """Return the keys that a tenant's file leaves room for, the largest saving first."""
    usd: dict[str, float] = defaultdict(float)
    for line in bill.lines:
        usd[line.price] += line.month("written")
    llm, embedding = (bill.month("written", part=part) for part in (LLM, EMBEDDING))
    node, volume = tenant.search.data_instance or _SMALL_NODE, tenant.search.volume_gib or _SMALL_VOLUME_GIB
    arm = {name: prices.unit[f"{name}_arm"].usd / prices.unit[name].usd for name in ("task_vcpu", "task_gib")}
    keys = [
        CheaperKey(
            "[bedrock] model",
            llm,
            "prompts go to Bedrock, which is paid by token beside it (docs/writers.md)",
        ),
        CheaperKey(
            "[power], ten hours on working days",
            0 if tenant.power else (llm + embedding) * (1 - _WORKING_HOURS),
            "at other hours no question is answered",
        ),
        CheaperKey(
            f'search.data_instance = "{_SMALL_NODE}"',
            usd[node] * (1 - prices.search[_SMALL_NODE].usd / prices.of("search", node).usd),
            "memory: 4 GiB a node",
        ),
        CheaperKey(
            f"search.volume_gib = {_SMALL_VOLUME_GIB}",
            usd["search_volume_gib_month"] * (1 - _SMALL_VOLUME_GIB / volume),
            "space for an index over 10 GiB",
        ),
        CheaperKey(
            f"tasks.cpu_units = {_SMALL_TASK}",
            (usd["task_vcpu"] + usd["task_vcpu_arm"]) * (1 - _SMALL_TASK / tenant.task_cpu_units),
            "answers at once of a task",
        ),
        CheaperKey(
            'tasks.architecture = "ARM64"',
            sum(usd[name] * (1 - share) for name, share in arm.items()),
            "figures: none was measured on Arm",
        ),
        CheaperKey(
            "network.endpoints, the company's own",
            usd["interface_endpoint_zone"],
            "a policy and a security group of the tenant's own at each endpoint",
        ),
    ]
    return sorted((key for key in keys if key.saves_usd >= 1), key=lambda key: -key.saves_usd)
