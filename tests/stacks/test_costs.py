"""What a tenant costs is read off its templates: nothing is overlooked; page, dashboard and command agree."""

from __future__ import annotations

import csv
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from assistant.cli.aws.cost import STATES, Bill, cheaper_keys, make_bill
from assistant.cli.main import run
from assistant.domain.errors import ConfigurationError
from assistant.tenant.prices import FILE, load_prices
from template_checks.priced import EMBEDDING, priced
from template_checks.upgrades import templates_by_stack_name
from tests.stacks.synthesized import ROOT, assembly_folder
from tests.stacks.values import deployed
from tools.pages import COSTS, with_costs

TENANTS = ("pharmacy", "clinic", "sandbox")
QUESTIONS = 20_000.0

OTHER_BILL = Path(__file__).parents[1] / "data" / "bill.csv"
"""By an author who saw the clinic's shape and load and public pages of prices, and none of ours."""
OUR_LINES = tomllib.loads(OTHER_BILL.with_name("bill_lines.toml").read_text(encoding="utf-8"))


def templates_of(assembly: Path, tenant: str) -> list[Mapping[str, Any]]:
    return list(templates_by_stack_name(assembly_folder(assembly, tenant)).values())


def bill_of(templates: Sequence[Mapping[str, Any]], **given: Any) -> Bill:
    return make_bill(templates, load_prices(), **{"questions": QUESTIONS, **given})


def template(**resources: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"Resources": {name: {"Type": kind, "Properties": own} for name, (kind, own) in resources.items()}}


@pytest.mark.parametrize("tenant", TENANTS)
def test_every_resource_of_a_tenant_has_a_price_or_is_free(assembly: Path, tenant: str) -> None:
    bill = bill_of(templates_of(assembly, tenant))

    assert bill.month("paused") < bill.month("on") <= bill.month("written")
    assert bill.month("quoted") < bill.month("written")


def test_a_resource_type_without_a_price_is_named_with_the_file(assembly: Path) -> None:
    forgotten = template(Gateway=("AWS::EC2::NatGateway", {}))

    with pytest.raises(ConfigurationError, match=rf"{FILE}: no price is known of AWS::EC2::NatGateway\. Add"):
        bill_of([*templates_of(assembly, "clinic"), forgotten])


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
    """Alarms are counted by the templates, and more of them may come: 0.10 USD a month each. The author's
    domain was larger, and the bill has no probe."""
    with OTHER_BILL.open(encoding="utf-8", newline="") as file:
        theirs = {row["line"]: float(row["usd_a_month"]) for row in csv.DictReader(file)}
    prices, templates = load_prices(), templates_of(assembly, "clinic")
    (domain,) = (
        body["Properties"]
        for template in templates
        for body in template["Resources"].values()
        if body["Type"] == "AWS::OpenSearchService::Domain"
    )
    domain["ClusterConfig"]["InstanceType"] = "m7g.large.search"
    domain["EBSOptions"]["VolumeSize"] = 100
    asked = prices.load.model_copy(update={"probe_questions_a_month": 0})
    bill = make_bill(templates, prices.model_copy(update={"load": asked}), questions=QUESTIONS)
    total = theirs["total"]
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


def test_the_sandbox_as_shipped_costs_at_most_380_usd_a_month_idle(assembly: Path) -> None:
    tenant = deployed("sandbox").config
    prices = load_prices().of_tenant(tenant)
    templates = templates_of(assembly, "sandbox")
    bill = make_bill(templates, prices, questions=QUESTIONS, hours_share=tenant.endpoint_hours_share)

    assert tenant.endpoint_hours_share == pytest.approx(13 * 5 / 168)
    assert bill.month("on") <= 380
    always = make_bill(templates, prices, questions=QUESTIONS)
    off = 1 - tenant.endpoint_hours_share
    assert always.month("on", part=EMBEDDING) - bill.month("on", part=EMBEDDING) == pytest.approx(
        always.month("on", part=EMBEDDING) * off
    )


def test_the_probe_pays_for_what_it_asks(assembly: Path) -> None:
    """Nobody replies to the probe, and its message is no conversation."""
    prices = load_prices().of_tenant(deployed("sandbox").config)
    bill = make_bill(templates_of(assembly, "sandbox"), prices, questions=0)
    calls, probe = prices.load.calls.values(), prices.load.probe_questions_a_month

    read, written = (
        sum(getattr(call, name) for call in calls if call.probe)
        for name in ("prompt_tokens", "written_tokens")
    )
    tokens = {line.price: line.quantity["on"] for line in bill.lines if line.part == "Bedrock"}
    assert tokens == {"bedrock_input_token": probe * read, "bedrock_output_token": probe * written}
    assert sum(call.prompt_tokens for call in calls if not call.probe) > 0


def test_a_cheaper_key_saves_what_the_templates_with_it_cost_less(assembly: Path) -> None:
    tenant = deployed("clinic").config
    prices, templates = load_prices().of_tenant(tenant), templates_of(assembly, "clinic")
    bill = make_bill(templates, prices, questions=QUESTIONS)
    saved = {key.key: key.saves_usd for key in cheaper_keys(bill, prices, tenant)}

    for template in templates:
        for body in template["Resources"].values():
            if body["Type"] == "AWS::ECS::TaskDefinition":
                body["Properties"]["Cpu"] = str(int(body["Properties"]["Cpu"]) // 2)
    smaller = make_bill(templates, prices, questions=QUESTIONS)
    less = bill.month("written") - smaller.month("written")
    assert saved["tasks.cpu_units = 512"] == pytest.approx(less, abs=0.1)  # but for scheduled tasks
    for template in templates:
        for body in template["Resources"].values():
            if body["Type"] == "AWS::ECS::TaskDefinition":
                body["Properties"]["RuntimePlatform"]["CpuArchitecture"] = "ARM64"
    arm = make_bill(templates, prices, questions=QUESTIONS)
    assert saved['tasks.architecture = "ARM64"'] > smaller.month("written") - arm.month("written") > 0


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
        "Search: m7g.medium.search",
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
    assert any(
        "a question is 5 calls: prompts of 11,546 tokens, 583 tokens written" in note
        for note in shown["notes"]
    )
    assert shown["tenants"]["clinic"]["questions"] == pytest.approx(5 * (10 + 1.4) / 24 * 730 * 3600)
    load, twice = shown["plans"]["clinic"]
    assert twice["questions_per_s"] == 2 * load["questions_per_s"]
    assert 2 < load["needed"] < twice["needed"] <= 2 * load["needed"]
    assert (load["p95_first_token_s"], twice["p95_first_token_s"]) == (None, None)
    (calm, _) = under_load(assembly, capfdbinary, "0.05")["plans"]["clinic"]
    assert 0 < calm["p95_first_token_s"] < 5
