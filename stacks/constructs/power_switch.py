"""The power switch as templates read it: a parameter outside every stack, which no deployment changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import aws_cdk as cdk
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from stacks.tenant import DeployedTenant

PAUSED = "paused"
RESUMING = "resuming"
"""Endpoints are being made; nobody calls them yet."""
ON = "on"


class PowerSwitch(Construct):
    """``stands`` holds while the endpoints shall stand; ``enabled`` is true while they may be called.

    CloudFormation reads the parameter's value at each update, also by ``UsePreviousValue``, which keeps the
    parameter's name ("Systems Manager parameter types", CloudFormation User Guide). So a deployment while
    paused leaves it paused. One a stack.
    """

    def __init__(self, scope: Construct, construct_id: str, *, tenant: DeployedTenant) -> None:
        super().__init__(scope, construct_id)
        stack = cdk.Stack.of(scope)
        parameter = cdk.CfnParameter(
            stack,
            "Power",
            type="AWS::SSM::Parameter::Value<String>",
            default=tenant.power_parameter,
            description="Name of the SSM parameter that says on, paused or resuming. It is made before the "
            "first deployment and belongs to no stack.",
        )
        self._word = parameter.value_as_string

    @cached_property
    def stands(self) -> cdk.CfnCondition:
        is_paused = cdk.Fn.condition_equals(self._word, PAUSED)
        return cdk.CfnCondition(cdk.Stack.of(self), "Stands", expression=cdk.Fn.condition_not(is_paused))

    @cached_property
    def enabled(self) -> cdk.IResolvable:
        """``Enabled`` of an event source mapping whose function calls an endpoint: else a deployment of it
        in a paused night would start it."""
        is_on = cdk.CfnCondition(
            cdk.Stack.of(self), "IsOn", expression=cdk.Fn.condition_equals(self._word, ON)
        )
        return cdk.Fn.condition_if(is_on.logical_id, True, False)


def sources_parameter(tenant: DeployedTenant) -> str:
    """Return the name of the SSM parameter by which the ingestion stack tells what a pause stops."""
    return tenant.parameter("power-sources")


class PowerSources(Construct):
    """What a pause stops and a resume starts again: event source mappings, and the queues that they read."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        event_source_ids: Sequence[str],
        queue_urls: Sequence[str],
    ) -> None:
        super().__init__(scope, construct_id)
        found = {"event_sources": list(event_source_ids), "queues": list(queue_urls)}
        ssm.CfnParameter(
            self,
            "Parameter",
            type="String",
            name=sources_parameter(tenant),
            description="Event source mappings that the power machines stop, and the queues they read.",
            value=cdk.Stack.of(self).to_json_string(found),
        )
