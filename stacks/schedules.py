"""State machines, the schedules that start them, and tasks on Fargate that start so.

    schedule ─ state machine ─ RunTask ─ task         a start that failed for good → queue of missed starts

ECS reports lacking capacity in ``Failures`` of a call that succeeded, so a schedule that called RunTask
itself would see no failure and not retry. The state machine (``scheduled_task.asl.json``) reads them and
retries, as AWS advises (https://repost.aws/knowledge-center/ecs-fargate-runtask-capacity). There is one
machine for each task definition, which costs nothing while it does not run; its input, ``{"command":
["make-sets"]}``, chooses the command alone (docs/decisions/0129-scheduled-starts.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_stepfunctions as stepfunctions
from constructs import Construct, IDependable

from stacks.outputs import Workload
from stacks.policy import Acknowledgement, exceptions, wildcard
from stacks.roles import USE_KEY, ServiceRole, allow, log_group_arn, resource_arn, via
from stacks.tenant_stack import Foundation

_STATES = Path(__file__).with_name("scheduled_task.asl.json")
_CALLS = {"RunTask": "ecs:runTask", "SendMessage": "sqs:sendMessage"}
"""Actions that the states call, by the placeholder of the definition that CloudFormation substitutes."""
_LATEST_S = 3600
"""EventBridge Scheduler retries the start of a machine for so long."""
_LOG_DELIVERY = (
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
)


def machine_statements() -> list[iam.PolicyStatement]:
    """Let a machine write its log and traces. Neither supports resources ("Logging using CloudWatch Logs",
    "Tracing with X-Ray", Step Functions developer guide)."""
    return [
        allow(_LOG_DELIVERY, "*"),
        allow(("xray:PutTelemetryRecords", "xray:PutTraceSegments"), "*"),
    ]


def state_machine(
    scope: Construct, construct_id: str, *, role: ServiceRole, log_group: str, **definition: Any
) -> stepfunctions.CfnStateMachine:
    """Create a machine that logs every event. ``log_group``: ARN of the group, with ``:*`` at its end.
    ``role`` must have ``machine_statements``. ``definition``: ``definition`` or ``definition_string``, and
    substitutions."""
    kinds = stepfunctions.CfnStateMachine
    group = kinds.CloudWatchLogsLogGroupProperty(log_group_arn=log_group)
    machine = kinds(
        scope,
        construct_id,
        role_arn=role.arn,
        logging_configuration=kinds.LoggingConfigurationProperty(
            level="ALL",
            include_execution_data=True,
            destinations=[kinds.LogDestinationProperty(cloud_watch_logs_log_group=group)],
        ),
        tracing_configuration=kinds.TracingConfigurationProperty(enabled=True),
        **definition,
    )
    # Step Functions refuses a machine whose role cannot write its log yet.
    machine.node.add_dependency(role.policy)
    return machine


Machines = Sequence[stepfunctions.CfnStateMachine]


class Schedules(Construct):
    """A group of schedules that start ``machines``. The group has the tenant's tags, because schedules take
    none."""

    def __init__(
        self, scope: Construct, construct_id: str, *, foundation: Foundation, machines: Machines
    ) -> None:
        super().__init__(scope, construct_id)
        self._missed_arn = _missed_starts_arn(self, foundation)
        self._group = scheduler.CfnScheduleGroup(self, "Group").ref
        self._role = ServiceRole(
            self,
            "Scheduling",
            service="scheduler.amazonaws.com",
            description=f"Starts state machines of {foundation.tenant.name} by the clock",
            statements=[
                allow("states:StartExecution", *(machine.attr_arn for machine in machines)),
                *_keep_missed_starts(self, foundation),
            ],
        )

    def add(
        self,
        construct_id: str,
        machine: stepfunctions.CfnStateMachine,
        *,
        expression: str,
        time_zone: str | None = None,
        data: str | None = None,
    ) -> scheduler.CfnSchedule:
        """Create a schedule: ``expression`` is ``rate(3 days)`` or ``cron(0 22 ? * * *)``, in ``time_zone``
        (None: UTC); ``data`` is the execution's input as JSON."""
        kinds = scheduler.CfnSchedule
        schedule = kinds(
            self,
            construct_id,
            group_name=self._group,
            schedule_expression=expression,
            schedule_expression_timezone=time_zone,
            flexible_time_window=kinds.FlexibleTimeWindowProperty(mode="OFF"),
            target=kinds.TargetProperty(
                arn=machine.attr_arn,
                role_arn=self._role.arn,
                input=data,
                dead_letter_config=kinds.DeadLetterConfigProperty(arn=self._missed_arn),
                retry_policy=kinds.RetryPolicyProperty(maximum_event_age_in_seconds=_LATEST_S),
            ),
        )
        schedule.node.add_dependency(self._role.policy)
        return schedule


class ScheduledTask(Construct):
    """The machine that starts a task of ``definition`` with the tenant's tags, and its schedules."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        foundation: Foundation,
        definition: ecs.FargateTaskDefinition,
        workload: Workload,
    ) -> None:
        """``workload`` names the task's security group."""
        super().__init__(scope, construct_id)
        self._foundation, self._definition = foundation, definition
        tenant = foundation.tenant
        role = ServiceRole(
            self,
            "Starting",
            service="states.amazonaws.com",
            description=f"Starts scheduled tasks of {tenant.name}",
            statements=self._statements(),
        )
        log_group = log_group_arn(self, f"{tenant.power_log_group}:*")
        # The ARNs of calls are substituted at deploy time: cfn-lint accepts them in the definition for
        # partition aws only.
        call = f"arn:{cdk.Stack.of(self).partition}:states:::aws-sdk:"
        self._machine = state_machine(
            self,
            "Start",
            role=role,
            log_group=log_group,
            definition=self._states(workload),
            definition_substitutions={name: f"{call}{action}" for name, action in _CALLS.items()},
        )
        self._schedules = Schedules(self, "Schedules", foundation=foundation, machines=[self._machine])

    def every(
        self,
        interval: cdk.Duration,
        construct_id: str,
        *,
        command: Sequence[str] = (),
        after: Sequence[IDependable] = (),
    ) -> None:
        """Start the task with a command at an interval. EventBridge runs a rate from the creation of its
        schedule on; ``after``: constructs that must exist by then."""
        schedule = self._schedules.add(
            construct_id,
            self._machine,
            expression=scheduler.ScheduleExpression.rate(interval).expression_string,
            data=json.dumps({"command": list(command)}),
        )
        roles = (self._definition.task_role, self._definition.obtain_execution_role())
        schedule.node.add_dependency(*roles, *after)

    def _states(self, workload: Workload) -> dict[str, Any]:
        """Return the definition, in Amazon States Language, with its placeholders filled. The names here must
        be those of ``scheduled_task.asl.json``; ``_CALLS`` stay placeholders, for CloudFormation."""
        foundation, stack = self._foundation, cdk.Stack.of(self)
        network, queue = foundation.network, foundation.data.missed_starts_queue
        container = cast("ecs.ContainerDefinition", self._definition.default_container)
        values = {
            **{name: f"${{{name}}}" for name in _CALLS},
            "Cluster": foundation.tenant.full_name,
            "TaskDefinition": self._definition.task_definition_arn,
            "Container": container.container_name,
            "Subnets": list(network.subnet_ids),
            "SecurityGroup": network.security_group_ids[workload],
            "Queue": f"https://sqs.{stack.region}.{stack.url_suffix}/{stack.account}/{queue}",
        }
        return _filled(json.loads(_STATES.read_text(encoding="utf-8")), values)

    def _statements(self) -> list[iam.PolicyStatement]:
        task, cluster = self._definition, self._foundation.tenant.full_name
        in_cluster = {"ArnEquals": {"ecs:cluster": resource_arn(self, "ecs", "cluster", cluster)}}
        roles = (task.task_role.role_arn, task.obtain_execution_role().role_arn)
        passed = {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
        created = {"StringEquals": {"ecs:CreateAction": "RunTask"}}
        return [
            allow("ecs:RunTask", task.task_definition_arn, conditions=in_cluster),
            allow("ecs:TagResource", resource_arn(self, "ecs", "task", f"{cluster}/*"), conditions=created),
            allow("iam:PassRole", *roles, conditions=passed),
            *_keep_missed_starts(self, self._foundation),
            *machine_statements(),
        ]


def _filled(part: Any, values: Mapping[str, Any]) -> Any:
    """Return the definition with values in place of texts ``"${Name}"``. A value keeps its type (a list, a
    reference of the CDK), so that checks of templates can read it."""
    if isinstance(part, dict):
        return {name: _filled(inner, values) for name, inner in cast("dict[str, Any]", part).items()}
    if isinstance(part, list):
        return [_filled(inner, values) for inner in cast("list[Any]", part)]
    text = str(part)
    return values[text[2:-1]] if text.startswith("${") else part


def _missed_starts_arn(scope: Construct, foundation: Foundation) -> str:
    return cdk.Stack.of(scope).format_arn(service="sqs", resource=foundation.data.missed_starts_queue)


def _keep_missed_starts(scope: Construct, foundation: Foundation) -> list[iam.PolicyStatement]:
    """Let a role put a start that failed into the tenant's queue of them."""
    return [
        allow("sqs:SendMessage", _missed_starts_arn(scope, foundation)),
        allow(USE_KEY, foundation.keys.data_key_arn, conditions=via(foundation.tenant, "sqs")),
    ]


def starting_exceptions(construct: str) -> tuple[Acknowledgement, ...]:
    """Return the exceptions of the machine's role. ``construct``: path of the ``ScheduledTask`` below the
    stage."""
    return exceptions(
        f"{construct}/Starting/Rights",
        wildcard("*", "arn:{partition}:ecs:{region}:{account}:task/{stage}/*"),
        "Delivery of a state machine's log and X-Ray support no resources (Step Functions developer guide). "
        "A task has no id before it starts: the role may tag it then, in one cluster, and never later.",
        decision="0129-scheduled-starts",
    )
