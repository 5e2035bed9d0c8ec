"""What must hold of the models stack of any tenant."""

from __future__ import annotations

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
    deployed,
    resources_of,
    stack_with,
    stage_for,
    template_of,
    with_sections,
)


@cache
def template(name: str) -> dict[str, Any]:
    return made(deployed(name))


def made(tenant: DeployedTenant) -> dict[str, Any]:
    stage = stage_for(tenant)
    return template_of(stack_with(ModelsStack, tenant, stage=stage))


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
