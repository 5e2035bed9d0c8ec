"""The power switch as templates read it: a parameter outside every stack, which no deployment changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import aws_cdk as cdk
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from assistant.settings.deployed_names import PAUSED, PAUSING
from stacks.tenant import DeployedTenant


class PowerSwitch(Construct):
    """What a template makes of the word.

    CloudFormation reads the parameter's value at each update, also by ``UsePreviousValue``, which keeps the
    parameter's name ("Systems Manager parameter types", CloudFormation User Guide). So a deployment while
    paused leaves it paused. One a stack.
    """

    def __init__(self, scope: Construct, construct_id: str, *, tenant: DeployedTenant) -> None:
        super().__init__(scope, construct_id)
        self._parameter = cdk.CfnParameter(
            cdk.Stack.of(scope),
            "Power",
            type="AWS::SSM::Parameter::Value<String>",
            default=tenant.power_parameter,
            description="Name of the SSM parameter that says on, pausing, paused or resuming. It is made "
            "before the first deployment and belongs to no stack.",
        )

    @cached_property
    def stands(self) -> cdk.CfnCondition:
        """Whether the endpoints shall be there: for every word but ``paused``."""
        return self._condition("Stands", cdk.Fn.condition_not(self._says(PAUSED)))

    @cached_property
    def enabled(self) -> cdk.IResolvable:
        """``Enabled`` of an event source mapping whose function calls an endpoint: else a deployment that
        changes the mapping in a paused night would start it.

        It is true while ``resuming`` too: were it not, a deployment begun then and ended later would leave
        the mapping off. A function that is started too early puts its messages back.
        """
        goes = cdk.Fn.condition_or(self._says(PAUSING), self._says(PAUSED))
        takes_work = self._condition("TakesWork", cdk.Fn.condition_not(goes))
        return cdk.Fn.condition_if(takes_work.logical_id, True, False)

    def _says(self, word: str) -> cdk.ICfnRuleConditionExpression:
        return cdk.Fn.condition_equals(self._parameter.value_as_string, word)

    def _condition(self, construct_id: str, expression: cdk.ICfnRuleConditionExpression) -> cdk.CfnCondition:
        return cdk.CfnCondition(cdk.Stack.of(self), construct_id, expression=expression)


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
