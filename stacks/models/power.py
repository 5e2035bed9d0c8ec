"""The power switch as templates read it: a parameter outside every stack, which no deployment changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_ssm as ssm
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct

from assistant.settings.deployed_names import PAUSED, PAUSING, RESUMING
from assistant.settings.deployment import PowerSection
from stacks.models.power_definition import PowerCalls, PowerDefinition
from stacks.roles import ServiceRole
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


# The two state machines of the power switch, their one narrow role, and the hours at which they run.


class PowerMachines(Construct):
    """Made last in the stack of the endpoints: an update by them keeps every parameter that the stack has."""

    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, log_group: logs.LogGroup
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        self._log_group = log_group
        role = self._role()
        stack = cdk.Stack.of(self)
        calls = PowerCalls(
            partition=stack.partition,
            stack_id=stack.stack_id,
            parameters=[
                found.logical_id for found in stack.node.find_all() if isinstance(found, cdk.CfnParameter)
            ],
            power_parameter=tenant.power_parameter,
            sources_parameter=sources_parameter(tenant),
        )
        definition = PowerDefinition(calls=calls)
        self.pause = self._machine("Pause", PAUSING, definition=definition, role=role)
        self.resume = self._machine("Resume", RESUMING, definition=definition, role=role)
        if tenant.config.power is not None:
            self._schedule(tenant.config.power)

    def _machine(
        self,
        construct_id: str,
        word: str,
        *,
        definition: PowerDefinition,
        role: ServiceRole,
    ) -> stepfunctions.CfnStateMachine:
        machine = stepfunctions.CfnStateMachine(
            self,
            construct_id,
            role_arn=role.arn,
            definition_string=cdk.Stack.of(self).to_json_string(definition.asking_for(word)),
            logging_configuration=stepfunctions.CfnStateMachine.LoggingConfigurationProperty(
                level="ALL",
                include_execution_data=True,
                destinations=[
                    stepfunctions.CfnStateMachine.LogDestinationProperty(
                        cloud_watch_logs_log_group=(
                            stepfunctions.CfnStateMachine.CloudWatchLogsLogGroupProperty(
                                log_group_arn=self._log_group.log_group_arn
                            )
                        )
                    )
                ],
            ),
            tracing_configuration=stepfunctions.CfnStateMachine.TracingConfigurationProperty(enabled=True),
        )
        machine.node.add_dependency(role.rights)  # a machine is refused whose role may not write its log
        return machine

    def _role(self) -> ServiceRole:
        return ServiceRole(
            self,
            "Switching",
            service="states.amazonaws.com",
            description=f"Switches the endpoints of {self._tenant.name} off and on",
            statements=[*self._on_stack(), *self._on_parameters(), *self._on_sources(), *_on_logs()],
        )

    def _on_stack(self) -> list[iam.PolicyStatement]:
        """CloudFormation acts by the stack's own role, which stays: this one is only allowed to ask."""
        stack = cdk.Stack.of(self)
        return [
            iam.PolicyStatement(actions=["cloudformation:DescribeStacks"], resources=[stack.stack_id]),
            iam.PolicyStatement(
                actions=["cloudformation:UpdateStack"],
                resources=[stack.stack_id],
                conditions={
                    "Null": {"cloudformation:TemplateUrl": "true", "cloudformation:RoleArn": "true"},
                },
            ),
        ]

    def _on_parameters(self) -> list[iam.PolicyStatement]:
        power = self._parameter(self._tenant.power_parameter)
        qualifier = self._tenant.place.bootstrap_qualifier
        return [
            iam.PolicyStatement(actions=["ssm:PutParameter"], resources=[power]),
            iam.PolicyStatement(
                actions=["ssm:GetParameter"],
                resources=[power, self._parameter(sources_parameter(self._tenant))],
            ),
            # CloudFormation reads a stack's parameters of SSM's kind as who asks for the update.
            iam.PolicyStatement(
                actions=["ssm:GetParameters"],
                resources=[power, self._parameter(f"/cdk-bootstrap/{qualifier}/version")],
            ),
        ]

    def _on_sources(self) -> list[iam.PolicyStatement]:
        """They belong to a stack that is deployed later: told by their tag, not by their names."""
        stack = cdk.Stack.of(self)
        own = {"StringEquals": {"aws:ResourceTag/tenant": self._tenant.name}}
        return [
            iam.PolicyStatement(
                actions=["lambda:UpdateEventSourceMapping"],
                resources=[
                    stack.format_arn(
                        service="lambda",
                        resource="event-source-mapping",
                        resource_name="*",
                        arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                    )
                ],
                conditions=own,
            ),
            iam.PolicyStatement(
                actions=["sqs:GetQueueAttributes"],
                resources=[stack.format_arn(service="sqs", resource="*")],
                conditions=own,
            ),
        ]

    def _parameter(self, name: str) -> str:
        return cdk.Stack.of(self).format_arn(
            service="ssm", resource="parameter", resource_name=name.removeprefix("/")
        )

    def _schedule(self, power: PowerSection) -> None:
        machines = [self.pause.attr_arn, self.resume.attr_arn]
        role = ServiceRole(
            self,
            "Scheduling",
            service="scheduler.amazonaws.com",
            description=f"Starts the power machines of {self._tenant.name} by the clock",
            statements=[iam.PolicyStatement(actions=["states:StartExecution"], resources=machines)],
        )
        resume_days = "MON-FRI" if power.weekdays_only else "*"
        for name, machine, at, days in (
            ("PauseSchedule", self.pause, power.pause_at, "*"),
            ("ResumeSchedule", self.resume, power.resume_at, resume_days),
        ):
            hour, minute = at.split(":")
            schedule = scheduler.CfnSchedule(
                self,
                name,
                schedule_expression=f"cron({int(minute)} {int(hour)} ? * {days} *)",
                schedule_expression_timezone=power.time_zone,
                flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
                target=scheduler.CfnSchedule.TargetProperty(arn=machine.attr_arn, role_arn=role.arn),
            )
            schedule.node.add_dependency(role.rights)


def _on_logs() -> list[iam.PolicyStatement]:
    """What Step Functions needs to deliver its log, and to trace; neither knows resources ("Logging using
    CloudWatch Logs", "Tracing with X-Ray", Step Functions developer guide)."""
    return [
        iam.PolicyStatement(
            actions=[
                "logs:CreateLogDelivery",
                "logs:DeleteLogDelivery",
                "logs:DescribeLogGroups",
                "logs:DescribeResourcePolicies",
                "logs:GetLogDelivery",
                "logs:ListLogDeliveries",
                "logs:PutResourcePolicy",
                "logs:UpdateLogDelivery",
            ],
            resources=["*"],
        ),
        iam.PolicyStatement(actions=["xray:PutTelemetryRecords", "xray:PutTraceSegments"], resources=["*"]),
    ]
