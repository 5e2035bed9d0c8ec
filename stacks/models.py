"""The models stack: the SageMaker endpoints, and the power switch that removes them at night.

The switch is a parameter outside every stack, and two state machines that act on it. The SSM parameter holds
the desired state: ``on``, ``pausing``, ``paused`` or ``resuming``. The two machines run the same
reconciliation (``power.asl.json``) and differ only in the state that they request. Each round reads the
parameter, acts on what it found and reads it again; if it was written meanwhile, another round follows. So
two executions may run at once, in any order, and the last request wins.

The caller of ``assistant aws pause`` or a schedule starts a machine. The states:

- ``pausing``: sources of work stop, work in progress ends, then the state becomes ``paused``.
- ``paused``: an update of the stack removes the endpoints. No other state does that, so no deployment and no
  other execution removes them under work in progress.
- ``resuming``: an update of the stack creates the endpoints, sources start, the state becomes ``on``. A pause
  that fails requests this, because an earlier one may have removed the endpoints.

The stack is updated only with its previous template and parameters, and only while no update of it runs.
Every wait is bounded, and a failed execution leaves the service usable or cleanly paused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_ssm as ssm
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from assistant.tenant.deployed_names import ON, PAUSED, PAUSING, RESUMING
from assistant.tenant.deployment import PowerSection
from stacks.endpoints import ModelEndpoint, embedding_models, llm
from stacks.options import option_stacks
from stacks.outputs import ModelsOutputs
from stacks.policy import QUARANTINE_BUCKET, exceptions, hipaa, wildcard
from stacks.processes import image_stamp
from stacks.roles import ServiceRole, allow, parameter_arn, resource_arn
from stacks.schedules import Schedules, machine_statements, state_machine
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack, tenant_log_group, tenant_of

_DEFINITION = Path(__file__).with_name("power.asl.json")
"""Amazon States Language with placeholders (``${StackId}``), which ``PowerMachines._definition`` fills: the
placeholders of the file and the names there must be equal."""


class PowerSwitch(Construct):
    """Conditions of a template that depend on the power parameter. Create one per stack: the models stack
    reads ``has_endpoints``, the ingestion stack ``enabled``.

    CloudFormation reads the parameter's value at each update, also by ``UsePreviousValue``, which keeps the
    parameter's name ("Systems Manager parameter types", CloudFormation User Guide). So a deployment while
    paused leaves it paused.
    """

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self._parameter = cdk.CfnParameter(
            cdk.Stack.of(scope),
            "Power",
            type="AWS::SSM::Parameter::Value<String>",
            default=tenant_of(self).power_parameter,
            description="Name of the SSM parameter that says on, pausing, paused or resuming. It is made "
            "before the first deployment and belongs to no stack.",
        )

    @cached_property
    def has_endpoints(self) -> cdk.CfnCondition:
        """True in every state but ``paused``: the endpoints exist."""
        return self._condition("Stands", cdk.Fn.condition_not(self._is(PAUSED)))

    @cached_property
    def enabled(self) -> cdk.IResolvable:
        """``Enabled`` of an event source mapping whose function calls an endpoint: false while pausing or
        paused.

        With a constant, a deployment in a paused night that changes the mapping would start it. The value is
        true while ``resuming``, because otherwise a deployment that begins then would leave the mapping off
        after the machine has switched it on. A function that starts too early returns its messages to the
        queue.
        """
        is_pausing = cdk.Fn.condition_or(self._is(PAUSING), self._is(PAUSED))
        takes_work = self._condition("TakesWork", cdk.Fn.condition_not(is_pausing))
        return cdk.Fn.condition_if(takes_work.logical_id, True, False)

    def _is(self, state: str) -> cdk.ICfnRuleConditionExpression:
        return cdk.Fn.condition_equals(self._parameter.value_as_string, state)

    def _condition(self, construct_id: str, expression: cdk.ICfnRuleConditionExpression) -> cdk.CfnCondition:
        return cdk.CfnCondition(cdk.Stack.of(self), construct_id, expression=expression)


def _sources_parameter(tenant: DeployedTenant) -> str:
    """Return the name of the parameter that ``publish_power_sources`` writes and the machines read."""
    return tenant.parameter("power-sources")


def publish_power_sources(
    scope: Construct, construct_id: str, *, event_source_ids: Sequence[str], queue_urls: Sequence[str]
) -> None:
    """Write the event source mappings that a pause stops, and their queues, into an SSM parameter, as
    ``{"event_sources": ["<uuid>"], "queues": ["<url>"]}``. The ingestion stack calls it."""
    sources = {"event_sources": list(event_source_ids), "queues": list(queue_urls)}
    ssm.CfnParameter(
        Construct(scope, construct_id),
        "Parameter",
        type="String",
        name=_sources_parameter(tenant_of(scope)),
        description="Event source mappings that the power machines stop, and the queues they read.",
        value=cdk.Stack.of(scope).to_json_string(sources),
    )


class PowerMachines(Construct):
    """The machines ``pause`` and ``resume``, their role, and the hours at which they run.

    Create it last in the models stack: the definition lists the stack's parameters that exist by then, and
    its update keeps the values of those alone.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, foundation: Foundation, log_group: logs.LogGroup
    ) -> None:
        super().__init__(scope, construct_id)
        tenant = self._tenant = foundation.tenant
        self._log_group = log_group
        role = ServiceRole(
            self,
            "Switching",
            service="states.amazonaws.com",
            description=f"Switches the endpoints of {tenant.name} off and on",
            statements=_switching_statements(self, tenant),
        )
        self.pause = self._machine("Pause", PAUSING, PAUSED, role=role)
        self.resume = self._machine("Resume", RESUMING, ON, role=role)
        if tenant.config.power is not None:
            self._schedule(tenant.config.power, foundation)

    def _machine(
        self, construct_id: str, requested: str, reached: str, *, role: ServiceRole
    ) -> stepfunctions.CfnStateMachine:
        """Create a machine that requests a state (``pausing``) and ends when the other (``paused``) is
        reached."""
        log_group, text = self._log_group.log_group_arn, self._definition(requested, reached)
        return state_machine(self, construct_id, role=role, log_group=log_group, definition_string=text)

    def _definition(self, requested: str, reached: str) -> str:
        """Return the definition with every placeholder filled, as JSON."""
        stack = cdk.Stack.of(self)
        parameters = [
            {"ParameterKey": construct.logical_id, "UsePreviousValue": True}
            for construct in stack.node.find_all()
            if isinstance(construct, cdk.CfnParameter)
        ]
        text = _DEFINITION.read_text(encoding="utf-8")
        text = text.replace('"${StackParameters}"', json.dumps(parameters))
        for name, value in {
            "Partition": stack.partition,
            "StackId": stack.stack_id,
            "PowerParameter": self._tenant.power_parameter,
            "SourcesParameter": _sources_parameter(self._tenant),
            "RequestedState": requested,
            "ReachedState": reached,
        }.items():
            text = text.replace(f"${{{name}}}", value)
        return stack.to_json_string(json.loads(text))

    def _schedule(self, power: PowerSection, foundation: Foundation) -> None:
        schedules = Schedules(self, "Schedules", foundation=foundation, machines=[self.pause, self.resume])
        resume_days = "MON-FRI" if power.weekdays_only else "*"
        for name, machine, at, days in (
            ("Pause", self.pause, power.pause_at, "*"),
            ("Resume", self.resume, power.resume_at, resume_days),
        ):
            hour, minute = at.split(":")
            expression = f"cron({int(minute)} {int(hour)} ? * {days} *)"
            schedules.add(name, machine, expression=expression, time_zone=power.time_zone)


def _switching_statements(scope: Construct, tenant: DeployedTenant) -> list[iam.PolicyStatement]:
    stack = cdk.Stack.of(scope)
    power = parameter_arn(scope, tenant.power_parameter)
    sources = parameter_arn(scope, _sources_parameter(tenant))
    version = parameter_arn(scope, f"/cdk-bootstrap/{tenant.place.bootstrap_qualifier}/version")
    mappings = resource_arn(scope, "lambda", "event-source-mapping", "*", colon=True)
    # CloudFormation acts with the role that the stack was deployed with. This role may only request an update
    # with the template and role unchanged.
    unchanged = {"Null": {"cloudformation:TemplateUrl": "true", "cloudformation:RoleArn": "true"}}
    # Mappings and queues belong to a stack that is deployed later, so the tenant's tag identifies them.
    tagged = {"StringEquals": {"aws:ResourceTag/tenant": tenant.name}}
    return [
        allow("cloudformation:DescribeStacks", stack.stack_id),
        allow("cloudformation:UpdateStack", stack.stack_id, conditions=unchanged),
        allow("ssm:PutParameter", power),
        allow("ssm:GetParameter", power, sources),
        # CloudFormation reads a stack's SSM parameters as the caller of the update.
        allow("ssm:GetParameters", power, version),
        allow("lambda:UpdateEventSourceMapping", mappings, conditions=tagged),
        allow("sqs:GetQueueAttributes", stack.format_arn(service="sqs", resource="*"), conditions=tagged),
        *machine_statements(),
    ]


class ModelsStack(TenantStack):
    """An endpoint for each embedding model, one for the LLM where the tenant has one, and the power
    machines."""

    def __init__(self, scope: Construct, *, foundation: Foundation) -> None:
        tenant = foundation.tenant
        super().__init__(scope, "Models", tenant=tenant, data_class="phi")
        condition = PowerSwitch(self, "Switch").has_endpoints
        for embedding in embedding_models(tenant):
            ModelEndpoint(self, embedding.place, served=embedding, foundation=foundation, condition=condition)
        if tenant.llm is not None:
            served = llm(tenant, tenant.llm)
            ModelEndpoint(self, "Llm", served=served, foundation=foundation, condition=condition)
        for option in option_stacks():
            option.add_to_models(self, foundation)
        machines = PowerMachines(
            self,
            "PowerMachines",
            foundation=foundation,
            log_group=tenant_log_group(
                self,
                "PowerLog",
                logs_key_arn=foundation.keys.logs_key_arn,
                name=tenant.power_log_group,
            ),
        )
        for verb, machine in (("Pause", machines.pause), ("Resume", machines.resume)):
            cdk.CfnOutput(
                self, f"{verb}Machine", value=machine.ref, description="For assistant aws pause and resume."
            )
        following = tenant.config.embedding_next
        self.outputs = ModelsOutputs(
            embedding_endpoint_name=tenant.config.embedding.endpoint,
            embedding_next_endpoint_name=following and following.endpoint,
            llm_endpoint_name=None if tenant.llm is None else tenant.config.generation.endpoint,
            power_parameter=tenant.power_parameter,
            pause_machine_arn=machines.pause.attr_arn,
            resume_machine_arn=machines.resume.attr_arn,
            model_stamp=_stamp(tenant),
        )


def _stamp(tenant: DeployedTenant) -> str:
    """Return a value that changes with the artifacts, their images and what they were compiled with."""
    parts = [
        part for manifest in tenant.served for part in (manifest.stamp(), image_stamp(tenant, manifest.image))
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


_ENDPOINTS = ("Embedding", "EmbeddingNext", "Llm")
"""Construct ids of ``ServedModel.place``."""

EXCEPTIONS = (
    *exceptions(
        (f"Models/{endpoint}/Role/Rights" for endpoint in _ENDPOINTS),
        wildcard("*", "arn:{partition}:ec2:{region}:{account}:network-interface/*"),
        "ECR's sign-in, metrics and EC2's Describe actions support no resources (Service Authorization "
        "Reference); metrics are restricted by namespace. A network interface has no id before SageMaker "
        "creates it: its subnets and security group restrict which.",
    ),
    *(
        row
        for endpoint in _ENDPOINTS
        for row in exceptions(
            f"Models/{endpoint}/Role/Rights",
            wildcard(f"arn:{{partition}}:s3:::{QUARANTINE_BUCKET}/{endpoint.lower().removesuffix('next')}/*"),
            "SageMaker names captured files by endpoint, hour and a number of its own. The role may only "
            "put, below one prefix of the bucket that only the redactor reads.",
        )
    ),
    *exceptions(
        "Models/Llm/Serving/Config",
        hipaa("SageMakerEndpointConfigurationKMSKeyConfigured"),
        "On an instance with local NVMe disks (GPU, Trainium) SageMaker refuses a configuration with a key "
        "(API reference, CreateEndpointConfig, KmsKeyId). The hardware encrypts those disks, by a key made "
        "at each start that never leaves it. Without local disks the key is set.",
    ),
    *exceptions(
        (f"Models/{endpoint}/Serving/{alarm}" for endpoint in _ENDPOINTS for alarm in ("Errors", "Latency")),
        hipaa("CloudWatchAlarmAction"),
        "SageMaker itself watches this alarm during a deployment and restores the old fleet. The alarms of "
        "the observability stack notify people.",
    ),
    *exceptions(
        "Models/PowerMachines/Switching/Rights",
        wildcard(
            "*",
            "arn:{partition}:lambda:{region}:{account}:event-source-mapping:*",
            "arn:{partition}:sqs:{region}:{account}:*",
        ),
        "Delivery of a state machine's log and X-Ray support no resources (Step Functions developer guide). "
        "Queues and their event source mappings belong to a stack that is deployed later: the tenant's tag "
        "restricts which, and only their state is read or switched.",
        decision="0018-a-parameter-switches-the-endpoints",
    ),
)
