"""The page of writers has the prices of ``assistant aws cost`` and the ends of the table of parts."""

from __future__ import annotations

import pytest

from assistant.cli.aws.cost import make_bill
from assistant.tenant.manifests import load_compatibility
from assistant.tenant.prices import load_prices
from tests.unit.tools.writers import (
    FRANKFURT,
    LOADS,
    PAGE,
    ROOT,
    WRITERS,
    Writer,
    break_even,
    instances,
    supported_until,
    tenant_of,
    usd_a_month,
    with_writers,
)

TABLE = load_compatibility(ROOT / "model_artifacts" / "compatibility.toml")
BUILT = [writer for writer in WRITERS if writer.model or writer.llm]


def test_the_page_is_made_of_the_prices_and_the_parts() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert page == with_writers(page), "run: python -m tests.unit.tools.writers"


def test_the_page_begins_with_the_answer() -> None:
    """A reader finds writer, price and end in the first lines."""
    said = " ".join(PAGE.read_text(encoding="utf-8").splitlines()[:5])

    assert "20,000 questions a month in Frankfurt? Bedrock, Nova Lite: 21.65 USD" in said
    assert "Supported until: not announced" in said


@pytest.mark.parametrize("region", ["us-east-1", FRANKFURT])
@pytest.mark.parametrize("questions", LOADS)
@pytest.mark.parametrize("writer", BUILT, ids=lambda writer: writer.name)
def test_a_price_is_that_of_a_bill(writer: Writer, questions: int, region: str) -> None:
    prices = load_prices().of_tenant(tenant_of(writer.model or "amazon.nova-lite-v1:0", region=region))
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
