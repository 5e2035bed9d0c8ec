"""What the service of a tenant may call of Bedrock: one model, or one profile and its models."""

from __future__ import annotations

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.options.bedrock.section import BedrockSection
from stacks.options import OptionStacks
from stacks.roles import allow, resource_arn
from stacks.tenant import DeployedTenant

INVOKE = "bedrock:InvokeModelWithResponseStream"
"""The action of ConverseStream."""


class BedrockStacks(OptionStacks):
    """The statements of a tenant that writes by Bedrock."""

    def task_statements(self, scope: Construct, tenant: DeployedTenant) -> Sequence[iam.PolicyStatement]:
        """Return the statements of the task's role. Through a profile its models may be called in the
        declared regions, and not by themselves
        (https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-prereq.html)."""
        if (bedrock := BedrockSection.of(tenant.config)) is None:
            return []
        if bedrock.regions is None:
            return [allow(INVOKE, _model_arn(tenant.place.region, bedrock.model_id))]
        profile = resource_arn(scope, "bedrock", "inference-profile", bedrock.model)
        models = [_model_arn(region, bedrock.model_id) for region in bedrock.regions]
        by_profile = {"StringEquals": {"bedrock:InferenceProfileArn": profile}}
        return [allow(INVOKE, profile), allow(INVOKE, *models, conditions=by_profile)]

    def actions(self, tenant: DeployedTenant) -> Sequence[str]:
        """Return the actions on models, which AWS owns."""
        return [] if BedrockSection.of(tenant.config) is None else [INVOKE]


def _model_arn(region: str, model_id: str) -> str:
    return f"arn:{cdk.Aws.PARTITION}:bedrock:{region}::foundation-model/{model_id}"
