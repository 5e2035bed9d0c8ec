"""The templates of a tenant whose answers a model of Bedrock writes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from assistant.cli.aws.templates import refuse_broken_rules, refuse_paths
from assistant.options.bedrock.stack import INVOKE, BedrockStacks
from stacks.tenant import DeployedTenant, read_tenants
from tests.stacks.synthesized import ROOT, kept, templates_in
from tests.stacks.values import with_sections

FILE = ROOT / "tests/company/tenants/scribe.toml"
ACCOUNT = "222233334444"
PROFILE = f"bedrock:eu-central-1:{ACCOUNT}:inference-profile/eu.amazon.nova-lite-v1:0"
REGIONS = ("eu-central-1", "eu-north-1", "eu-west-1", "eu-west-3")
MODELS = [f"bedrock:{region}::foundation-model/amazon.nova-lite-v1:0" for region in REGIONS]


@pytest.fixture(scope="module")
def stage() -> Path:
    return kept("company") / "assembly-Scribe"


@pytest.fixture(scope="module")
def templates(stage: Path) -> Mapping[str, Any]:
    return templates_in(stage)


def scribe() -> DeployedTenant:
    (tenant,) = read_tenants(folder=FILE.parent, only="scribe", images=ROOT / "images.lock.toml")
    return tenant


def of_type(template: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {name: one["Properties"] for name, one in template["Resources"].items() if one["Type"] == kind}


def arns(value: Any) -> list[str]:
    """Return ARNs from the service on: before it stands the partition."""
    return [
        json.dumps(one).partition("bedrock:")[1] + json.dumps(one).partition("bedrock:")[2].rstrip('"]}')
        for one in value
    ]


def bedrock_statements(template: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for policy in of_type(template, "AWS::IAM::Policy").values():
        for statement in policy["PolicyDocument"]["Statement"]:
            if "bedrock" in json.dumps(statement["Action"]):
                yield statement


def test_the_task_may_call_the_profile_and_through_it_its_models_in_the_declared_regions(
    templates: Mapping[str, Any],
) -> None:
    by_profile, by_model = bedrock_statements(templates["Orchestrator"])
    assert by_profile["Action"] == by_model["Action"] == INVOKE
    assert arns([by_profile["Resource"]]) == [PROFILE]
    assert arns(by_model["Resource"]) == MODELS
    (profile,) = by_model["Condition"]["StringEquals"].items()
    assert profile[0] == "bedrock:InferenceProfileArn"
    assert arns([profile[1]]) == [PROFILE]


def test_a_model_of_the_region_is_the_only_one() -> None:
    generation = {"context_tokens": 16384}
    tenant = with_sections(scribe(), bedrock={"model": "amazon.nova-lite-v1:0"}, generation=generation)
    (statement,) = BedrockStacks().task_statements(cdk.Stack(), tenant)
    assert arns(statement.resources) == [MODELS[0]]
    assert not statement.conditions


def test_the_network_has_one_way_to_it(templates: Mapping[str, Any]) -> None:
    endpoints = of_type(templates["Network"], "AWS::EC2::VPCEndpoint")
    (endpoint,) = [one for one in endpoints.values() if "bedrock" in one["ServiceName"]]
    assert endpoint["ServiceName"] == "com.amazonaws.eu-central-1.bedrock-runtime"
    assert endpoint["PrivateDnsEnabled"] is True
    (statement,) = endpoint["PolicyDocument"]["Statement"]
    assert statement["Action"] == [INVOKE]
    assert sorted(arns(statement["Resource"])) == sorted([PROFILE, *MODELS])
    assert statement["Condition"]["StringEquals"] == {
        "aws:PrincipalAccount": ACCOUNT,
        "aws:PrincipalTag/tenant": "scribe",
    }


def test_rules_and_paths_hold(stage: Path) -> None:
    refuse_broken_rules(stage, tenant_file=FILE, root=ROOT)
    refuse_paths(stage, tenant_file=FILE, root=ROOT)
