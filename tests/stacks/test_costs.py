"""What a tenant costs is read off its templates: nothing is overlooked; page, dashboard and command agree."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from assistant.cli.aws.cost import STATES, Bill, make_bill
from assistant.cli.main import run
from assistant.domain.errors import ConfigurationError
from assistant.tenant.prices import FILE, load_prices
from template_checks.priced import priced
from template_checks.upgrades import templates_by_stack_name
from tests.stacks.synthesized import ROOT, assembly_folder
from tests.stacks.values import deployed
from tools.pages import COSTS, with_costs

TENANTS = ("pharmacy", "clinic", "sandbox")
QUESTIONS = 20_000.0

OTHER_BILL = Path(__file__).parents[1] / "data" / "bill.csv"
"""By an author who saw the clinic's shape and load and public pages of prices, and none of ours."""
OUR_LINES = {
    "llm instances": ("ml.g6e.2xlarge",),
    "embedding instances": ("ml.c7i.xlarge",),
    "embedding volume": ("endpoint_volume_gib_month",),
    "endpoint data": ("data through endpoints",),
    "search data nodes": ("m7g.large.search",),
    "search master nodes": ("m7g.medium.search",),
    "search volumes": ("search_volume_gib_month",),
    "task vcpu": ("task_vcpu", "scheduled tasks: vCPU hours"),
    "task memory": ("task_gib", "scheduled tasks: GiB hours"),
    "application balancer": ("application_balancer",),
    "application balancer capacity": ("application balancer: capacity",),
    "network balancer": ("network_balancer",),
    "network balancer capacity": ("network balancer: capacity",),
    "interface endpoints": ("interface_endpoint_zone",),
    "interface endpoint data": ("data through interface endpoints",),
    "zone transfer": ("transfer between zones",),
    "keys": ("key",),
    "key requests": ("KMS requests",),
    "alarms": ("alarm_metric",),
    "dashboard": ("dashboard",),
    "custom metrics": ("custom metrics",),
    "log ingestion": ("log lines",),
    "log storage": ("log lines kept",),
    "traces": ("traces",),
    "data events": ("data events",),
    "management events": ("management events",),
    "object storage": ("objects",),
    "object writes": ("writes of objects",),
    "object reads": ("reads of objects",),
    "table writes": ("table writes",),
    "table reads": ("table reads",),
    "table storage": ("table storage",),
    "table recovery": ("table recovery",),
    "function runs": ("runs", "scheduled runs"),
    "function time": ("GB-seconds", "scheduled GB-seconds"),
    "queue requests": ("messages", "polls of queues"),
}


def templates_of(assembly: Path, tenant: str) -> list[Mapping[str, Any]]:
    return list(templates_by_stack_name(assembly_folder(assembly, tenant)).values())


def bill_of(templates: Sequence[Mapping[str, Any]], **given: Any) -> Bill:
    return make_bill(templates, load_prices(), **{"questions": QUESTIONS, **given})


def template(**resources: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"Resources": {name: {"Type": kind, "Properties": own} for name, (kind, own) in resources.items()}}


def endpoint(instance: str, *, count: int = 1, **more: int) -> tuple[str, dict[str, Any]]:
    variant = {"InstanceType": instance, "InitialInstanceCount": count, **more}
    return "AWS::SageMaker::EndpointConfig", {"ProductionVariants": [variant]}


@pytest.mark.parametrize("tenant", TENANTS)
def test_every_resource_of_a_tenant_has_a_price_or_is_free(assembly: Path, tenant: str) -> None:
    bill = bill_of(templates_of(assembly, tenant))

    assert bill.month("paused") < bill.month("on") <= bill.month("written")
    assert bill.month("quoted") < bill.month("written")


def test_a_resource_type_without_a_price_is_named_with_the_file(assembly: Path) -> None:
    forgotten = template(Gateway=("AWS::EC2::NatGateway", {}))

    with pytest.raises(ConfigurationError, match=rf"{FILE}: no price is known of AWS::EC2::NatGateway\. Add"):
        bill_of([*templates_of(assembly, "clinic"), forgotten])


def test_an_instance_without_a_price_is_named_with_the_file() -> None:
    with pytest.raises(ConfigurationError, match=rf"{FILE}: there is no price \[endpoint.'ml.p9.large'\]"):
        bill_of([template(LlmConfig=endpoint("ml.p9.large"))])


def test_an_invalid_price_file_is_named_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(FILE.read_text(encoding="utf-8").replace('per = "hour"', 'per = "day"', 1))

    with pytest.raises(ConfigurationError, match=r"prices\.toml: .*endpoint\.ml\.inf2\.8xlarge\.per"):
        load_prices(path)


def test_the_page_has_the_costs_of_the_templates(assembly: Path) -> None:
    page = COSTS.read_text(encoding="utf-8")

    made = with_costs(page, assembly=assembly, tenants=ROOT / "tests/tenants")
    assert page == made, "run: make synth && python -m tools.pages"


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_dashboard_shows_the_cost_of_a_question_by_the_same_prices(assembly: Path, tenant: str) -> None:
    prices = load_prices().of_tenant(deployed(tenant).config)
    templates = templates_of(assembly, tenant)
    hourly = {True: 0.0, False: 0.0}
    for line in priced(templates):
        hourly[line.part.endswith("endpoint")] += line.amount * prices.of(line.kind, line.name).usd_per_hour
    (dashboard,) = (
        json.dumps(body)
        for one in templates
        for body in one["Resources"].values()
        if body["Type"] == "AWS::CloudWatch::Dashboard"
    )

    shown = re.search(
        r"\((?P<rest>[\d.]+)(?: \+ IF\(FILL\(llm, -1\) > -1, (?P<llm>[\d.]+), 0\))?"
        r" \+ IF\(FILL\(embedding, -1\) > -1, (?P<embedding>[\d.]+), 0\)"
        r" \+ (?P<quoted>[\d.]+) \* FILL\(quoted, 0\) \+ (?P<written>[\d.]+) \* FILL\(written, 0\)\)"
        r" / \(FILL\(quoted, 0\) \+ FILL\(written, 0\)\)",
        dashboard,
    )

    assert shown is not None
    terms = {name: float(value) for name, value in shown.groupdict("0").items()}
    assert bool(terms["llm"]) == deployed(tenant).config.has_llm_endpoint
    assert terms["rest"] == pytest.approx(hourly[False], abs=1e-3)
    assert terms["llm"] + terms["embedding"] == pytest.approx(hourly[True], abs=1e-3)
    one, two = (make_bill(templates, prices, questions=times * QUESTIONS) for times in (1, 2))
    for state in STATES[2:]:
        more = (two.month(state) - one.month(state)) / QUESTIONS
        assert terms[state] == pytest.approx(more, abs=1e-6)
    for name in ("QuotedAnswers", "WrittenAnswers", "PromptTokens", "EmbeddedTexts", "AnswerSeconds"):
        assert name in dashboard


def test_another_authors_bill_agrees_within_three_percent_in_every_line(assembly: Path) -> None:
    """Alarms are counted by the templates, and more of them may come: 0.10 USD a month each."""
    with OTHER_BILL.open(encoding="utf-8", newline="") as file:
        theirs = {row["line"]: float(row["usd_a_month"]) for row in csv.DictReader(file)}
    bill, total = bill_of(templates_of(assembly, "clinic")), theirs["total"]
    ours = {line.name: line.month("written") for line in bill.lines}

    assert len(OUR_LINES) >= 30
    assert bill.month("written") == pytest.approx(total, rel=0.03)
    assert total == pytest.approx(sum(theirs[name] for name in OUR_LINES), abs=0.02)
    for name, parts in OUR_LINES.items():
        rounding = 1.0 if name == "alarms" else 0.02
        assert sum(ours.pop(part) for part in parts) == pytest.approx(theirs[name], rel=0.03, abs=rounding), (
            name
        )
    assert sum(ours.values()) < 0.05, f"lines that the other author was not asked for: {[*ours]}"


def test_the_command_shows_tenants_side_by_side(
    assembly: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    command = ["aws", "cost", "pharmacy", "clinic", "--assembly", str(assembly)]
    with pytest.raises(SystemExit) as ended:
        run([*command, "--questions-per-month", "43800", "--json"])

    shown = json.loads(capfdbinary.readouterr().out)
    assert ended.value.code == 0
    assert [*shown["tenants"]] == ["pharmacy", "clinic"]
    clinic = shown["tenants"]["clinic"]
    per_thousand = clinic["usd_a_month"]["written"] / 43.8
    assert clinic["usd_per_1000_questions"]["written"] == pytest.approx(per_thousand)
    assert clinic["largest"] == [
        "LLM endpoint: ml.g6e.2xlarge",
        "Search: m7g.large.search",
        "Network: interface_endpoint_zone",
    ]
    assert any(
        "clinic, us-east-1: 0.035 questions a second: 1 x ml.g6e.2xlarge" in note for note in shown["notes"]
    )

    with pytest.raises(SystemExit):
        run(command)
    table = capfdbinary.readouterr()
    assert re.search(rb"1,000 questions, written +[\d.]+ +[\d.]+", table.out)
    assert b"prices that no page confirmed: endpoint_volume_gib_month" in table.err
    assert any("no page confirmed" in note for note in shown["notes"])


def under_load(
    assembly: Path, capfdbinary: pytest.CaptureFixture[bytes], *given: str, tenant: str = "clinic"
) -> dict[str, Any]:
    with pytest.raises(SystemExit):
        run(["aws", "cost", tenant, "--assembly", str(assembly), "--questions-per-second", *given, "--json"])
    return json.loads(capfdbinary.readouterr().out)


def test_a_load_beyond_the_tenants_most_instances_is_told(
    assembly: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    shown = under_load(assembly, capfdbinary, "5")
    assert any("5 questions a second need more than max_instances = 2" in note for note in shown["notes"])
    assert any("assumed: prompts of" in note for note in shown["notes"])
    assert shown["tenants"]["clinic"]["questions"] == pytest.approx(5 * (10 + 1.4) / 24 * 730 * 3600)
    load, twice = shown["plans"]["clinic"]
    assert twice["questions_per_s"] == 2 * load["questions_per_s"]
    assert 2 < load["needed"] < twice["needed"] <= 2 * load["needed"]
    assert (load["p95_first_token_s"], twice["p95_first_token_s"]) == (None, None)
    (calm, _) = under_load(assembly, capfdbinary, "0.05")["plans"]["clinic"]
    assert 0 < calm["p95_first_token_s"] < 5


def test_a_time_shorter_than_the_reading_of_a_prompt_is_met_by_no_number(
    assembly: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    shown = under_load(assembly, capfdbinary, "0.05", "--p95-first-token-ms", "1")
    assert [row["needed"] for row in shown["plans"]["clinic"]] == [None, None]


def test_a_processor_whose_times_nobody_knows_has_no_plan(
    assembly: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert under_load(assembly, capfdbinary, "1", tenant="sandbox")["plans"] == {}
