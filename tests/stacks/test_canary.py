"""What must hold of a tenant whose file names a candidate, and of one whose file names none."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from assistant.tenant.deployment_checks import artifact_contradictions
from assistant.tenant.manifests import LlmManifest
from assistant.tenant.prices import load_prices
from assistant.terminal.account import endpoint_instances
from stacks.models import ModelsStack
from stacks.observability import ObservabilityStack
from stacks.tenant import DeployedTenant
from template_checks.priced import priced
from tests.stacks.values import (
    KEYS,
    WITH_LLM,
    deployed,
    llm_of,
    resources_of,
    stack_with,
    stage_for,
    template_of,
)

TENANTS = ["pharmacy", "clinic", WITH_LLM]
each = pytest.mark.parametrize("name", TENANTS)
SHA256 = "c" * 64


def tuned(name: str, **changes: Any) -> LlmManifest:
    served = llm_of(name)
    return served.model_copy(update={"name": f"{served.name}-tuned", "sha256": SHA256, **changes})


@cache
def with_candidate(name: str) -> DeployedTenant:
    return replace(deployed(name), candidate=tuned(name))


@cache
def models(name: str, *, candidate: bool = True) -> dict[str, Any]:
    tenant = with_candidate(name) if candidate else deployed(name)
    return template_of(stack_with(ModelsStack, tenant, stage=stage_for(tenant)))


def configs(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the LLM's served and canary configuration."""
    found = {
        logical_id: body["Properties"]
        for logical_id, body in resources_of(models(name), "AWS::SageMaker::EndpointConfig").items()
        if logical_id.startswith("Llm")
    }
    served = next(one for one in found.values() if len(one["ProductionVariants"]) == 1)
    canary = next(one for one in found.values() if len(one["ProductionVariants"]) == 2)
    return served, canary


@each
def test_a_candidate_adds_resources_and_changes_none_but_the_role_s_rights(name: str) -> None:
    before, after = models(name, candidate=False)["Resources"], models(name)["Resources"]

    changed = {logical_id for logical_id in before if before[logical_id] != after.get(logical_id)}
    assert {before[one]["Type"] for one in changed} == {"AWS::IAM::ManagedPolicy"}
    assert sorted(after[one]["Type"] for one in after.keys() - before.keys()) == [
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Role",
        "AWS::SageMaker::EndpointConfig",
        "AWS::SageMaker::Model",
    ]


@each
def test_the_canary_runs_beside_the_unchanged_variant_and_gets_no_call_before_its_release(name: str) -> None:
    served, canary = configs(name)

    first, second = canary["ProductionVariants"]
    assert [first] == served["ProductionVariants"]
    assert (first["VariantName"], first["InitialVariantWeight"]) == ("AllTraffic", 1)
    assert (second["VariantName"], second["InitialVariantWeight"]) == ("Canary", 0)
    assert (second["InitialInstanceCount"], second["InstanceType"]) == (1, first["InstanceType"])
    assert second["ModelName"] != first["ModelName"]
    assert {key: canary.get(key) for key in ("KmsKeyId", "DataCaptureConfig")} == {
        key: served.get(key) for key in ("KmsKeyId", "DataCaptureConfig")
    }


@each
def test_the_canary_s_container_is_isolated_and_has_its_own_artifact(name: str) -> None:
    served, canary = (
        next(
            body["Properties"]
            for logical_id, body in resources_of(models(name), "AWS::SageMaker::Model").items()
            if logical_id.startswith(part)
        )
        for part in ("LlmServingModel", "LlmServingCanaryModel")
    )

    source = canary["PrimaryContainer"].pop("ModelDataSource")["S3DataSource"]
    served["PrimaryContainer"].pop("ModelDataSource")
    assert f"llm/{tuned(name).name}/{SHA256}/" in str(source["S3Uri"])
    assert canary == served  # image, network isolation, subnets, role, environment
    assert canary["EnableNetworkIsolation"] is True


@each
def test_the_endpoint_s_role_reads_the_files_of_both_artifacts_and_no_other(name: str) -> None:
    policies = resources_of(models(name), "AWS::IAM::ManagedPolicy")
    (policy,) = (body["Properties"] for key, body in policies.items() if key.startswith("LlmRole"))
    read = [
        statement["Resource"]
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] == "s3:GetObject"
    ]
    reads = [
        str(one) for resource in read for one in (resource if isinstance(resource, list) else [resource])
    ]

    files = llm_of(name).files
    assert len(reads) == 2 * len(files)
    assert not [one for one in reads if "*" in one]
    for file in files:
        assert sum(f"{tuned(name).name}/{SHA256}/{file}" in one for one in reads) == 1


@each
def test_the_outputs_name_both_configurations(name: str) -> None:
    outputs = models(name)["Outputs"]

    served, canary = (outputs[key]["Value"] for key in ("ServedConfigName", "CanaryConfigName"))
    assert served != canary
    assert outputs["CanaryArtifactSha256"]["Value"] == SHA256
    assert "CanaryConfigName" not in models(name, candidate=False)["Outputs"]


@each
def test_builds_may_move_the_endpoint_between_the_two_configurations_and_nothing_else(name: str) -> None:
    policies, roles = (resources_of(models(name), f"AWS::IAM::{kind}") for kind in ("ManagedPolicy", "Role"))
    (policy,) = (body["Properties"] for key, body in policies.items() if "Releasing" in key)
    (role,) = (body["Properties"] for key, body in roles.items() if key.startswith("LlmReleaser"))
    tenant = with_candidate(name)

    def of(arn: Any) -> str:
        if isinstance(arn, str):
            return arn
        return arn["Ref"] if "Ref" in arn else "".join(map(str, arn["Fn::Join"][1]))

    moves, updates, grants = policy["PolicyDocument"]["Statement"]
    assert moves["Action"] == ["sagemaker:DescribeEndpoint", "sagemaker:UpdateEndpointWeightsAndCapacities"]
    assert of(moves["Resource"]).endswith(f":endpoint/{tenant.config.generation.endpoint}")
    assert updates["Action"] == "sagemaker:UpdateEndpoint"
    endpoint, *configs_of_stack = updates["Resource"]
    assert endpoint == moves["Resource"]
    assert {of(one) for one in configs_of_stack} == {
        key for key in resources_of(models(name), "AWS::SageMaker::EndpointConfig") if key.startswith("Llm")
    }
    assert (grants["Action"], grants["Resource"]) == ("kms:CreateGrant", KEYS.models_key_arn)
    assert grants["Condition"] == {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    trusted = [one["Principal"]["AWS"] for one in role["AssumeRolePolicyDocument"]["Statement"]]
    assert trusted == list(tenant.place.artifact_publishers)


def test_without_builds_nobody_releases() -> None:
    tenant = with_candidate(WITH_LLM)
    alone = replace(tenant, place=tenant.place.model_copy(update={"artifact_publishers": ()}))
    template = template_of(stack_with(ModelsStack, alone, stage=stage_for(alone)))
    assert "ReleaserArn" not in template["Outputs"]
    assert not [key for key in template["Resources"] if "Releas" in key]


def alarms(tenant: DeployedTenant) -> dict[str, Any]:
    stack = stack_with(ObservabilityStack, tenant, stage=stage_for(tenant))
    return resources_of(template_of(stack), "AWS::CloudWatch::Alarm")


def test_alarms_watch_the_canary_s_own_variant_and_notify() -> None:
    of_canary = [
        body["Properties"]
        for body in alarms(with_candidate("pharmacy")).values()
        if {"Name": "VariantName", "Value": "Canary"} in body["Properties"].get("Dimensions", ())
    ]

    assert {one["MetricName"] for one in of_canary} == {"Invocation5XXErrors", "FirstChunkModelLatency"}
    assert all(one["AlarmActions"] for one in of_canary)
    assert {one["TreatMissingData"] for one in of_canary} == {"notBreaching"}
    assert not [name for name in alarms(deployed("pharmacy")) if "Canary" in name]


def test_a_candidate_costs_nothing_before_its_release_and_takes_one_instance_of_the_quota() -> None:
    before, after = (models("pharmacy", candidate=candidate) for candidate in (False, True))
    prices = load_prices()

    def hourly(template: dict[str, Any]) -> float:
        return sum(line.amount * prices.of(line.kind, line.name).usd_per_hour for line in priced([template]))

    assert hourly(after) == hourly(before)
    instances = [endpoint_instances({"Models": one})["ml.inf2.8xlarge"] for one in (before, after)]
    assert instances[1] == instances[0] + 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": None}, "has no sha256.*assistant models package FOLDER --name smollm2-135m-cpu-tuned"),
        ({"model": "Qwen/Qwen3-8B"}, "differs from smollm2-135m-cpu in model"),
        ({"sequence_length": 1024}, "differs from smollm2-135m-cpu in sequence_length"),
        ({"image": "llm_gpu", "accelerator": "gpu"}, "in accelerator, image"),
    ],
)
def test_a_candidate_that_cannot_take_the_served_model_s_prompts_is_refused(
    changes: dict[str, Any], said: str
) -> None:
    tenant = deployed(WITH_LLM)
    wrong = list(
        artifact_contradictions(
            tenant.config,
            models=tenant.models,
            llm=tenant.llm,
            embedding=tenant.embedding,
            prompts={tenant.config.answers.prompt: True},
            candidate=tuned(WITH_LLM, **changes),
        )
    )

    [told] = [one for one in wrong if one.place == ("models", "candidate")]
    assert re.search(said, told.said)
