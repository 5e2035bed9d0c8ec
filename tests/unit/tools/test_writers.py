"""The page of writers has the prices of ``assistant aws cost`` and the ends of the table of parts.

``python -m tests.unit.tools.test_writers`` writes its answer and its tables, by those prices and formulas and
the ends of ``model_artifacts/compatibility.toml``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from assistant.cli.aws.cost import LlmSpeed, make_bill
from assistant.tenant.manifests import (
    CompatibilityTable,
    LlmManifest,
    instance_named,
    load_compatibility,
    load_images,
)
from assistant.tenant.prices import HOURS_A_MONTH, Prices, load_prices
from assistant.tenant.tenant import TenantConfig, load_tenant
from tools.tables import markdown_table, with_table

# --- the page ---------------------------------------------------------------------------------------------
ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "writers.md"
FRANKFURT = "eu-central-1"
LOADS = (20_000, 1_000_000)
"""Questions a month."""
WITHIN_S = 5.0
"""95 of 100 questions get a first text within it: the default of ``assistant aws cost``."""
MOST_INSTANCES = 100
"""Up to which a break-even is looked for: of so many, one that is part-filled no longer counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """What may write answers. With neither ``model`` nor ``llm`` it is not built."""

    name: str
    model: str | None = None
    """Of Bedrock."""
    llm: str | None = None
    """Folder of ``model_artifacts/llm``."""
    instance: str = ""
    residency: str
    proven: str

    @property
    def manifest(self) -> LlmManifest | None:
        return None if self.llm is None else LlmManifest.read(ROOT / "model_artifacts" / "llm" / self.llm)

    @property
    def speed(self) -> LlmSpeed | None:
        return _speed(self.llm, self.instance)


PRICES = load_prices()


@cache
def _speed(llm: str | None, instance: str) -> LlmSpeed | None:
    if llm is None:
        return None
    manifest = LlmManifest.read(ROOT / "model_artifacts" / "llm" / llm)
    return LlmSpeed.of(manifest, instance_named(instance), PRICES.load)


WRITERS = (
    Writer(
        name="**Bedrock**, Nova Lite",
        model="amazon.nova-lite-v1:0",
        residency="us-east-1: that region. Frankfurt: four regions of the EU, which the file names",
        proven="documented frames over HTTP; never run against Bedrock",
    ),
    Writer(
        name="**GPU**, ml.g6e.2xlarge, Qwen3-8B",
        llm="qwen3-8b-gpu",
        instance="ml.g6e.2xlarge",
        residency="your account and region",
        proven="templates, an emulated account; never on a chip",
    ),
    Writer(
        name="**Inferentia2**, ml.inf2.8xlarge, Qwen3-8B",
        llm="qwen3-8b-inf2",
        instance="ml.inf2.8xlarge",
        residency="your account and region",
        proven="templates, compiling and an emulated account; never on a chip",
    ),
    Writer(
        name="**Trainium 1**, ml.trn1.2xlarge, Qwen3-8B",
        llm="qwen3-8b-inf2",
        instance="ml.trn1.2xlarge",
        residency="your account and region; no price of it in Frankfurt was found",
        proven="a row of the table without an artifact: compile one for `trn1`",
    ),
    Writer(
        name="**Trainium 2**, ml.trn2.48xlarge",
        instance="ml.trn2.48xlarge",
        residency="your account and region",
        proven="told, not built: no image of it speaks to SageMaker, none was found proven with the AMI",
    ),
)


def usd_a_month(writer: Writer, *, questions: float, region: str) -> float | None:
    """Return what a writer adds to a tenant's bill in USD a month, without an endpoint's volume; None where
    it is not built, or the region's price is not known."""
    prices = PRICES
    if writer.model is not None:
        regional = prices.of_tenant(tenant_of(writer.model, region=region))
        lines = [use for use in regional.use if use.part == "Bedrock"]
        return questions * regional.model_copy(update={"use": lines}).usd_of_use(written=True)
    known = prices.endpoint if region == prices.region else prices.elsewhere[region].endpoint
    if writer.speed is None or writer.instance not in known:
        return None
    return known[writer.instance].usd_per_hour * HOURS_A_MONTH * instances(writer, questions, prices)


@cache
def tenant_of(model: str, *, region: str) -> TenantConfig:
    """The sandbox with another model of Bedrock, in a region."""
    sandbox = load_tenant(ROOT / "tenants" / "sandbox.toml")
    assert sandbox.deployment is not None
    return sandbox.model_copy(
        update={
            "generation": sandbox.generation.model_copy(update={"model": model}),
            "deployment": sandbox.deployment.model_copy(update={"region": region}),
        }
    )


def instances(writer: Writer, questions: float, prices: Prices) -> int:
    """Return how many instances a month's questions need."""
    assert writer.speed is not None
    needed = writer.speed.needed(prices.load.busy_rate(questions), within_s=WITHIN_S)
    assert needed is not None
    return needed


def first_text(writer: Writer) -> str:
    """Return within which time 95 of 100 questions have a first text, at each load: "0.6 s / 2.7 s"."""
    if (speed := writer.speed) is None:
        return "not measured"
    prices, seconds = PRICES, list[str]()
    for questions in LOADS:
        running = instances(writer, questions, prices)
        row = speed.under(prices.load.busy_rate(questions), within_s=WITHIN_S, running=running)
        seconds.append(f"{row.p95_first_token_s:.1f} s")
    return " / ".join(seconds)


def supported_until(writer: Writer, table: CompatibilityTable) -> str:
    """Return the first end of what a writer needs, and what has none: "2026-06-30 (Amazon Linux 2, …); not
    announced: Neuron driver 2.19, …"."""
    text = writer.model or ""
    if (manifest := writer.manifest) is not None:
        image = load_images(ROOT / "images.lock.toml").image(manifest.image)
        text = f"/{image.repository}:{image.tag} {manifest.ami}"
    parts = table.used(text)
    undated = [part.name for part in parts if part.last_day == date.max]
    if len(undated) == len(parts):
        return table.until(text) if parts else "no part is chosen"
    return f"{table.until(text)}; not announced: {'; '.join(undated)}"


def break_even(own: Writer, model: str) -> float | None:
    """Return the least questions a month at which instances of one's own cost no more than a model of
    Bedrock, in us-east-1; None where they never do, since each is full before."""
    prices, region = PRICES, PRICES.region
    instance_usd = prices.endpoint[own.instance].usd_per_hour * HOURS_A_MONTH
    bedrock = Writer(name="", model=model, residency="", proven="")
    million_usd = usd_a_month(bedrock, questions=1_000_000, region=region)
    assert million_usd is not None
    for count in range(1, MOST_INSTANCES):
        questions = count * instance_usd / million_usd * 1_000_000
        if instances(own, questions, prices) <= count:
            return questions
    return None


MODELS = {
    "Nova Lite": "amazon.nova-lite-v1:0",
    "Nova Pro": "amazon.nova-pro-v1:0",
    "Claude Sonnet 4": "anthropic.claude-sonnet-4-20250514-v1:0",
}
"""Of Bedrock, for the break-even."""


def amount(usd: float | None) -> str:
    return "not known" if usd is None else f"{usd:,.2f}" if usd < 1000 else f"{usd:,.0f}"


def answer(table: CompatibilityTable) -> str:
    """The cheapest writer of Frankfurt at the first load, and the cheapest in an account of one's own."""
    usd = {each: usd_a_month(each, questions=LOADS[0], region=FRANKFURT) for each in WRITERS}
    priced = {each: known for each, known in usd.items() if known is not None}
    cheapest = min(priced, key=priced.__getitem__)
    own = min((each for each in priced if each.llm is not None), key=priced.__getitem__)
    of_both = [
        f"{each.name.replace('**', '')}: {amount(priced[each])} USD a month. Supported until: "
        f"{supported_until(each, table)}."
        for each in (cheapest, own)
    ]
    return (
        f"**Which writer for {LOADS[0]:,} questions a month in Frankfurt? {of_both[0]}**\n\n"
        f"Where prompts must stay in Frankfurt, in your own account: {of_both[1]}\n"
    )


def writer_rows(table: CompatibilityTable) -> Iterator[list[str]]:
    for writer in WRITERS:
        cells = [
            amount(usd_a_month(writer, questions=questions, region=region))
            for region in (PRICES.region, FRANKFURT)
            for questions in LOADS
        ]
        until = supported_until(writer, table)
        yield [writer.name, *cells, first_text(writer), until, writer.residency, writer.proven]


def break_even_rows() -> Iterator[list[str]]:
    for writer in WRITERS:
        if writer.llm is not None:
            least = [break_even(writer, model) for model in MODELS.values()]
            yield [writer.name, *("never" if each is None else f"{each:,.0f}" for each in least)]


def part_rows(table: CompatibilityTable) -> Iterator[list[str]]:
    for part in sorted(table.part, key=lambda part: part.last_day):
        yield [part.name, str(part.end), str(part.read), part.source]


def with_writers(page: str) -> str:
    """Return the page with its answer and its tables made anew."""
    table = load_compatibility(ROOT / "model_artifacts" / "compatibility.toml")
    loads = [f"{where}, {questions:,}" for where in ("us-east-1", "Frankfurt") for questions in LOADS]
    head = ("writer; USD a month", *loads, "first text", "supported until", "residency", "what is proven")
    made = {
        "answer": answer(table),
        "writers": markdown_table(head, writer_rows(table)),
        "break-even": markdown_table(("questions a month", *MODELS), break_even_rows()),
        "parts": markdown_table(("part", "supported until", "read", "source"), part_rows(table)),
    }
    for name, text in made.items():
        page = with_table(page, text, begin=f"{name}, made by", end=f"end of {name}")
    return page


# --- tests ------------------------------------------------------------------------------------------------
TABLE = load_compatibility(ROOT / "model_artifacts" / "compatibility.toml")
BUILT = [writer for writer in WRITERS if writer.model or writer.llm]


def test_the_page_is_made_of_the_prices_and_the_parts() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == with_writers(page), "run: python -m tests.unit.tools.test_writers"


def test_the_page_begins_with_the_answer() -> None:
    """A reader finds writer, price and end in the first lines."""
    said = " ".join(PAGE.read_text(encoding="utf-8").splitlines()[:5])

    assert "20,000 questions a month in Frankfurt? Bedrock, Nova Lite: 21.65 USD" in said
    assert "Supported until: not announced" in said


@pytest.mark.parametrize("region", ["us-east-1", FRANKFURT])
@pytest.mark.parametrize("questions", LOADS)
@pytest.mark.parametrize("writer", BUILT, ids=lambda writer: writer.name)
def test_a_price_is_that_of_a_bill(writer: Writer, questions: int, region: str) -> None:
    prices = PRICES.of_tenant(tenant_of(writer.model or "amazon.nova-lite-v1:0", region=region))
    resource = {"Type": "AWS::ECS::Service", "Properties": {"TaskDefinition": {"Ref": "Task"}}}
    needed = 1
    if writer.llm is not None:
        variants = [{"InstanceType": writer.instance, "InitialInstanceCount": 1}]
        resource = {"Type": "AWS::SageMaker::EndpointConfig", "Properties": {"ProductionVariants": variants}}
        needed = instances(writer, questions, prices)
    alone = prices.model_copy(update={"load": prices.load.model_copy(update={"probe_questions_a_month": 0})})
    bill = make_bill(
        [{"Resources": {"LlmWriter": resource}}], alone, questions=questions, llm_instances=needed
    )

    usd = usd_a_month(writer, questions=questions, region=region)
    is_unknown = writer.instance == "ml.trn1.2xlarge" and region == FRANKFURT
    assert usd is None if is_unknown else usd == pytest.approx(bill.month("written"))


def test_the_ends_are_those_of_the_parts() -> None:
    ends = {writer.name.partition("**,")[0].strip("*"): supported_until(writer, TABLE) for writer in WRITERS}

    assert ends["Bedrock"] == "not announced"
    assert ends["GPU"].startswith("2029-06-30 (Amazon Linux 2023")
    assert ends["Inferentia2"].startswith("2026-06-30 (Amazon Linux 2,")
    assert "not announced: " in ends["Inferentia2"]
    assert ends["Trainium 2"] == "no part is chosen"


def test_an_own_model_never_costs_as_little_as_the_cheapest_of_bedrock() -> None:
    own = [writer for writer in WRITERS if writer.llm is not None]

    for model in ("amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"):
        assert {break_even(writer, model) for writer in own} == {None}
    for writer in own:
        dear = "anthropic.claude-sonnet-4-20250514-v1:0"
        least = break_even(writer, dear)
        assert least is not None
        bedrock = Writer(name="", model=dear, residency="", proven="")
        assert usd_a_month(writer, questions=least, region="us-east-1") == pytest.approx(
            usd_a_month(bedrock, questions=least, region="us-east-1")
        )


if __name__ == "__main__":
    PAGE.write_text(with_writers(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
