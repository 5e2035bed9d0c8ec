"""The power state machines and conditions of synthesized templates, for a tenant in virtual time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from random import Random
from typing import Any

from aws_cdk import aws_lambda as lambda_

from assistant.tenant.deployed_names import ON
from stacks.models import ModelsStack, PowerSwitch
from stacks.tenant_stack import TenantStack
from tests.stacks.power.simulation import Tenant
from tests.stacks.values import deployed, resources_of, stack_with, stage_for, template_of


def tenant_of(chance: Random, *, word: str = ON) -> Tenant:
    """Return a simulated tenant with the conditions of its templates."""
    template = models_template()
    (stands,) = {body["Condition"] for body in resources_of(template, "AWS::SageMaker::Endpoint").values()}
    return Tenant(
        definitions=machines(),
        stands_for=lambda asked: _holds(template["Conditions"][stands], word=asked),
        takes_work_for=lambda asked: _holds(_condition_of_sources(), word=asked),
        chance=chance,
        words=[word],
    )


@cache
def models_template() -> dict[str, Any]:
    tenant = deployed("pharmacy")
    stage = stage_for(tenant)
    return template_of(stack_with(ModelsStack, tenant, stage=stage))


@cache
def machines() -> Mapping[str, Mapping[str, Any]]:
    """Return the two definitions, with what CloudFormation puts into them."""
    found = resources_of(models_template(), "AWS::StepFunctions::StateMachine")
    assert len(found) == 2
    return {
        kind: json.loads(_text(body["Properties"]["DefinitionString"]))
        for name, body in found.items()
        for kind in ("pause", "resume")
        if kind.capitalize() in name
    }


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        separator, parts = value["Fn::Join"]
        return separator.join(_text(part) for part in parts)
    return {"AWS::Partition": "aws", "AWS::StackId": "stack-id"}[value["Ref"]]


def _holds(condition: Any, *, word: str) -> bool:
    """Evaluate a condition of a template for a power state."""
    match condition:
        case {"Fn::Not": [inner]}:
            return not _holds(inner, word=word)
        case {"Fn::Or": parts}:
            return any(_holds(part, word=word) for part in parts)
        case {"Fn::Equals": [{"Ref": "Power"}, wanted]}:
            return word == wanted
    raise NotImplementedError(condition)


@cache
def _condition_of_sources() -> Any:
    """Return the condition of ``Enabled`` of the ingestion stack's event source mappings."""
    tenant = deployed("pharmacy")
    stack = TenantStack(stage_for(tenant), "Sources", tenant=tenant, data_class="internal")
    switch = PowerSwitch(stack, "Switch")
    lambda_.CfnEventSourceMapping(stack, "Source", function_name="f", enabled=switch.enabled)
    template = template_of(stack)
    (source,) = resources_of(template, "AWS::Lambda::EventSourceMapping").values()
    name, *choice = source["Properties"]["Enabled"]["Fn::If"]
    assert choice == [True, False]
    return template["Conditions"][name]


def switched(tenant: Tenant, kind: str) -> str | None:
    """Run a state machine and every event that follows; return its outcome."""
    execution = tenant.start(kind)
    tenant.run()
    return execution.outcome
