"""What must hold of the models stack of any tenant."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from assistant.options.models_lab.jumpstart import TrialPlace
from assistant.options.models_lab.stack.models import trial_endpoints
from stacks.models import ModelsStack
from stacks.outputs import Workload
from stacks.tenant import DeployedTenant
from tests.stacks.values import (
    KEYS,
    NETWORK,
    WITH_LLM,
    deployed,
    llm_of,
    resources_of,
    stack_with,
    stage_for,
    template_of,
    with_sections,
)

TENANTS = ["pharmacy", "clinic", WITH_LLM]
each = pytest.mark.parametrize("name", TENANTS)
ACCELERATED = {"pharmacy": "ml.inf2.8xlarge", "clinic": "ml.g6e.2xlarge"}


@cache
def template(name: str) -> dict[str, Any]:
    return made(deployed(name))


def made(tenant: DeployedTenant) -> dict[str, Any]:
    stage = stage_for(tenant)
    return template_of(stack_with(ModelsStack, tenant, stage=stage))


def properties(name: str, kind: str, part: str) -> dict[str, Any]:
    """Return the properties of the one resource of a kind whose logical id begins with ``part``."""
    found = resources_of(template(name), kind)
    (body,) = (body for logical_id, body in found.items() if logical_id.startswith(part))
    return body["Properties"]


def variant(name: str, part: str) -> dict[str, Any]:
    (only,) = properties(name, "AWS::SageMaker::EndpointConfig", part)["ProductionVariants"]
    return only


def statements(name: str, part: str) -> list[dict[str, Any]]:
    return properties(name, "AWS::IAM::ManagedPolicy", part)["PolicyDocument"]["Statement"]


def resources_for(name: str, part: str, action: str) -> list[str]:
    found: list[str] = []
    for statement in statements(name, part):
        actions, resources = statement["Action"], statement["Resource"]
        if action in ([actions] if isinstance(actions, str) else actions):
            found += [str(r) for r in (resources if isinstance(resources, list) else [resources])]
    return found


# --- containers ------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("part", ["Embedding", "Llm"])
def test_a_container_is_isolated_in_the_tenant_s_subnets(name: str, part: str) -> None:
    model = properties(name, "AWS::SageMaker::Model", part)

    assert model["EnableNetworkIsolation"] is True
    assert model["VpcConfig"]["Subnets"] == list(NETWORK.subnet_ids)
    assert len(model["VpcConfig"]["SecurityGroupIds"]) == 1


def test_the_model_s_reasoning_is_disabled() -> None:
    for name, variable in (("pharmacy", "SM_ON_CHAT_TEMPLATE"), ("clinic", "SM_VLLM_CHAT_TEMPLATE")):
        environment = properties(name, "AWS::SageMaker::Model", "Llm")["PrimaryContainer"]["Environment"]
        assert environment[variable] == "/opt/ml/model/chat_template.jinja"


def test_missing_images_and_artifacts_are_required_parameters() -> None:
    for name, parameter in (
        (WITH_LLM, "ModelServerImageDigest"),
        ("pharmacy", "LlmArtifactSha256"),
        ("pharmacy", "LlmNeuronxImageDigest"),
        ("pharmacy", "EmbeddingTeiCpuImageDigest"),
    ):
        asked = template(name)["Parameters"][parameter]
        assert "Default" not in asked
        assert asked["AllowedPattern"].endswith("[0-9a-f]{64}$")


def test_the_missing_hash_of_an_adopted_candidate_names_the_command_that_adds_it() -> None:
    update = {"name": "qwen-of-jumpstart", "revision": "qwen-of-jumpstart==1.0.0", "sha256": None}
    tenant = replace(deployed("clinic"), llm=llm_of("clinic").model_copy(update=update))
    made = template_of(stack_with(ModelsStack, tenant, stage=stage_for(tenant)))
    command = "assistant models candidates --region us-east-1 --adopt qwen-of-jumpstart"
    assert command in made["Parameters"]["LlmArtifactSha256"]["Description"]
    assert command not in template("pharmacy")["Parameters"]["LlmArtifactSha256"]["Description"]


@each
@pytest.mark.parametrize("part", ["Embedding", "Llm"])
def test_under_hipaa_no_image_is_referenced_by_tag(name: str, part: str) -> None:
    image = properties(name, "AWS::SageMaker::Model", part)["PrimaryContainer"]["Image"]
    by_digest = any("@" in str(one) for one in image["Fn::Join"][1])
    assert by_digest or not deployed(name).is_hipaa


# --- endpoints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "instance"), ACCELERATED.items())
def test_an_accelerator_gets_its_ami_and_time_to_start(name: str, instance: str) -> None:
    llm = variant(name, "Llm")

    assert llm["InstanceType"] == instance
    assert llm["InferenceAmiVersion"] == llm_of(name).ami
    assert llm["ContainerStartupHealthCheckTimeoutInSeconds"] >= 1800
    assert llm["ModelDataDownloadTimeoutInSeconds"] >= 1800
    assert 300 <= llm["VariantInstanceProvisionTimeoutInSeconds"] <= 3600


@each
def test_an_update_keeps_the_scaled_count_and_rolls_back_on_an_alarm(name: str) -> None:
    alarms = set(resources_of(template(name), "AWS::CloudWatch::Alarm"))
    for body in resources_of(template(name), "AWS::SageMaker::Endpoint").values():
        deployment = body["Properties"]["DeploymentConfig"]
        watched = {a["AlarmName"]["Ref"] for a in deployment["AutoRollbackConfiguration"]["Alarms"]}
        assert body["Properties"]["RetainAllVariantProperties"] is True
        assert watched
        assert watched <= alarms
        assert "BlueGreenUpdatePolicy" in deployment


@each
def test_scaling_follows_concurrent_requests_and_comes_after_its_endpoint(name: str) -> None:
    targets = resources_of(template(name), "AWS::ApplicationAutoScaling::ScalableTarget")
    endpoints = resources_of(template(name), "AWS::SageMaker::Endpoint")
    for body in targets.values():
        (endpoint,) = [n for n in body["DependsOn"] if n in endpoints]
        assert endpoints[endpoint]["Properties"]["EndpointName"] in body["Properties"]["ResourceId"]
    for body in resources_of(template(name), "AWS::ApplicationAutoScaling::ScalingPolicy").values():
        tracking = body["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        metric = tracking["PredefinedMetricSpecification"]["PredefinedMetricType"]
        assert metric == "SageMakerVariantConcurrentRequestsPerModelHighResolution"


# --- capture and rights ----------------------------------------------------------------------------------


@each
@pytest.mark.parametrize(("part", "modes"), [("Llm", ["Input", "Output"]), ("Embedding", ["Input"])])
def test_calls_of_both_endpoints_are_captured_into_quarantine_under_their_key(
    name: str, part: str, modes: list[str]
) -> None:
    """Of embeddings the texts: vectors teach nothing."""
    capture = properties(name, "AWS::SageMaker::EndpointConfig", part)["DataCaptureConfig"]

    assert capture["EnableCapture"] is True
    assert capture["InitialSamplingPercentage"] == deployed(name).models.capture_percent
    assert capture["DestinationS3Uri"] == f"s3://value-quarantine/{part.lower()}/"
    assert capture["KmsKeyId"] == KEYS.capture_key_arn
    assert [one["CaptureMode"] for one in capture["CaptureOptions"]] == modes
    assert capture["CaptureContentTypeHeader"] == {"JsonContentTypes": ["application/json"]}


@pytest.mark.parametrize(("percent", "is_captured"), [(0, False), (10, False), (100, True)])
def test_capture_without_redaction_is_whole_or_disabled(percent: int, *, is_captured: bool) -> None:
    tenant = deployed("clinic")
    models = tenant.models.model_dump(mode="json", exclude_none=True)
    changed = models | {"capture": "direct", "capture_passages_percent": percent}
    configs = resources_of(made(with_sections(tenant, models=changed)), "AWS::SageMaker::EndpointConfig")
    (embedding,) = (body for name, body in configs.items() if name.startswith("Embedding"))
    assert ("DataCaptureConfig" in embedding["Properties"]) == is_captured


def test_without_capture_no_role_may_write_captured_calls() -> None:
    tenant = deployed("pharmacy")
    models = {"accelerator": "inf2", "llm": tenant.models.llm, "embedding": tenant.embedding.name}
    off = made(with_sections(tenant, models=models | {"capture": "off"}))

    configs = resources_of(off, "AWS::SageMaker::EndpointConfig").values()
    assert all("DataCaptureConfig" not in body["Properties"] for body in configs)
    assert "s3:PutObject" not in str(resources_of(off, "AWS::IAM::ManagedPolicy"))


@each
@pytest.mark.parametrize("part", ["Embedding", "Llm"])
def test_a_role_may_read_only_its_own_artifact(name: str, part: str) -> None:
    read = resources_for(name, part, "s3:GetObject")
    manifest = llm_of(name) if part == "Llm" else deployed(name).embedding

    assert len(read) == len(manifest.files)
    assert all(manifest.name in resource for resource in read)
    assert not any("*" in resource for resource in read)


def test_the_state_machines_may_update_this_stack_without_a_new_template() -> None:
    (asked,) = (
        statement
        for statement in statements("pharmacy", "PowerMachinesSwitching")
        if statement["Action"] == "cloudformation:UpdateStack"
    )

    assert asked["Resource"] == {"Ref": "AWS::StackId"}
    assert asked["Condition"]["Null"] == {
        "cloudformation:TemplateUrl": "true",
        "cloudformation:RoleArn": "true",
    }


def test_schedules_use_the_tenant_s_time_zone() -> None:
    pause = properties("sandbox", "AWS::Scheduler::Schedule", "PowerMachinesSchedulesPause")
    resume = properties("sandbox", "AWS::Scheduler::Schedule", "PowerMachinesSchedulesResume")

    assert pause["ScheduleExpression"] == "cron(0 20 ? * * *)"
    assert resume["ScheduleExpression"] == "cron(0 7 ? * MON-FRI *)"
    assert {pause["ScheduleExpressionTimezone"], resume["ScheduleExpressionTimezone"]} == {"America/New_York"}


def test_a_tenant_without_hours_has_no_schedule() -> None:
    assert resources_of(template("pharmacy"), "AWS::Scheduler::Schedule") == {}


def test_the_stamp_changes_with_the_artifact() -> None:
    assert _stamp(deployed("pharmacy")) != _stamp(deployed("clinic"))


def _stamp(tenant: DeployedTenant) -> str:
    stage = stage_for(tenant)
    stack = stack_with(ModelsStack, tenant, stage=stage)
    return stack.outputs.model_stamp


# throw-away endpoints


def test_only_a_tenant_that_asks_has_roles_for_trials() -> None:
    assert trial_endpoints(deployed("sandbox")) == tuple(f"assistant-sandbox-trial-{n}" for n in (1, 2, 3))
    assert "TrialPlace" in template("sandbox")["Outputs"]
    assert "TrialPlace" not in template("pharmacy")["Outputs"]
    assert not [logical_id for logical_id in template("pharmacy")["Resources"] if "Trial" in logical_id]


def test_the_output_tells_where_trials_run() -> None:
    value = template("sandbox")["Outputs"]["TrialPlace"]["Value"]
    text = "".join(part if isinstance(part, str) else part["Fn::GetAtt"][0] for part in value["Fn::Join"][1])

    place = TrialPlace.model_validate_json(text)
    assert place.endpoints == trial_endpoints(deployed("sandbox"))
    assert place.subnets == NETWORK.subnet_ids
    assert place.security_group == NETWORK.security_group_ids[Workload.MODELS]
    assert place.key_arn == KEYS.models_key_arn
    assert place.role_arn.startswith("TrialsRole")
    assert place.clean_up_role_arn.startswith("TrialsCleanUp")


def test_every_part_of_a_trial_may_be_deleted_by_schedule() -> None:
    """The command schedules deletions of an endpoint, its configuration and its model."""
    deletes = {
        statement["Action"]: json.dumps(statement["Resource"])
        for statement in statements("sandbox", "TrialsCleanUp")
    }

    assert deletes.keys() == {f"sagemaker:Delete{kind}" for kind in ("Endpoint", "EndpointConfig", "Model")}
    for name in trial_endpoints(deployed("sandbox")):
        assert all(name in where for where in deletes.values())


def test_a_trial_s_role_reads_artifacts_and_writes_only_log_lines_and_metrics() -> None:
    allowed = {
        action
        for statement in statements("sandbox", "TrialsRights")
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
        if not action.startswith("ec2:")
    }

    assert allowed == {
        "cloudwatch:PutMetricData",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetAuthorizationToken",
        "ecr:GetDownloadUrlForLayer",
        "kms:Decrypt",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "s3:GetObject",
        "s3:ListBucket",
    }
    read = resources_for("sandbox", "TrialsRights", "s3:GetObject")
    assert sorted(name.split("/")[-2] for name in read) == ["embedding", "llm"]


def test_a_trial_s_log_is_encrypted_and_ends() -> None:
    logs = resources_of(template("sandbox"), "AWS::Logs::LogGroup")
    trials = [body["Properties"] for logical_id, body in logs.items() if logical_id.startswith("TrialsLog")]

    assert [log["LogGroupName"] for log in trials] == [
        f"/aws/sagemaker/Endpoints/{name}" for name in trial_endpoints(deployed("sandbox"))
    ]
    assert all(log["KmsKeyId"] and log["RetentionInDays"] for log in trials)
