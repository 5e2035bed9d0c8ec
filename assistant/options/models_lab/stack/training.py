"""The task that makes training sets: a schedule starts it on Fargate, and it ends with its set.

It runs the module ``assistant.options.models_lab.make_sets`` out of the image of the learning stack's
functions, which has what finds patients' data. It is no function: 90 days of texts may take longer than
the 15 minutes that Lambda gives. The alarm *Sets not made* watches.
"""

from __future__ import annotations

from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_scheduler_targets as scheduled
from constructs import Construct

from assistant.process.settings import MakingSetsSettings, ServiceSettings
from assistant.tenant.deployed_names import APPROVED, ERASURE_PARTITIONS, desk_partitions
from stacks.data.buckets import of_partitions
from stacks.outputs import Workload
from stacks.processes import LEARNING_IMAGE, PULL_IMAGE, TenantFileAsset, image_repository_arn, image_uri
from stacks.roles import (
    USE_KEY,
    Duty,
    WorkloadRole,
    after_its_role,
    allow,
    bucket_arn,
    resource_arn,
    tag_duty,
    via,
)
from stacks.tenant_stack import Foundation, TenantStack, tenant_log_group

SETS = "sets/"
"""Folder of the training bucket."""
_GET = ("dynamodb:GetItem", "dynamodb:BatchGetItem")
_MOST_LATE_MINUTES = 60
"""A start that Fargate has no capacity for is tried again for so long; the next one is days away."""
_run_task = cast("Any", scheduled.EcsRunFargateTask)
"""Its stub names a parameter of ``bind`` otherwise than the interface."""


class TrainingSets(Construct):
    """The task's role reads feedback and what feedback is about, and writes nothing but sets."""

    def __init__(
        self,
        scope: TenantStack,
        construct_id: str,
        *,
        foundation: Foundation,
        training_bucket: str,
        cluster_name: str,
    ) -> None:
        super().__init__(scope, construct_id)
        tenant, network = foundation.tenant, foundation.network
        log_group = tenant_log_group(self, "Logs", logs_key_arn=foundation.keys.logs_key_arn)
        self.log_group_name = log_group.log_group_name
        role = self._role("Role", f"Makes training sets of {tenant.name}'s feedback")
        role.may(*_statements(self, foundation, training_bucket))
        tag_duty(role, Duty.PREPARER)
        tenant_file = TenantFileAsset(self, "TenantFile", tenant=tenant)
        tenant_file.grant_read(role)
        starting = self._role("ExecutionRole", "How Fargate starts the task", through=("ecr.dkr", "s3"))
        # The token opens no repository, and the action supports no resource (Service Authorization
        # Reference).
        starting.may(
            allow("ecr:GetAuthorizationToken", "*"),
            allow(PULL_IMAGE, image_repository_arn(self, tenant, LEARNING_IMAGE)),
        )
        # The log driver gives the role this permission by itself.
        starting.declare([allow(("logs:CreateLogStream", "logs:PutLogEvents"), log_group.log_group_arn)])
        definition = ecs.FargateTaskDefinition(
            self,
            "Definition",
            cpu=1024,
            memory_limit_mib=4096,  # every text of the window at once
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.X86_64,  # of the functions' image
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            task_role=cast("iam.IRole", role),
            execution_role=cast("iam.IRole", starting),
            volumes=[ecs.Volume(name="Tmp")],
        )
        environment = foundation.environment(
            MakingSetsSettings, tenant_file_s3=tenant_file.uri, sets_s3=f"s3://{training_bucket}/{SETS}"
        )
        linux = ecs.LinuxParameters(self, "Linux")
        linux.drop_capabilities(ecs.Capability.ALL)
        container = definition.add_container(
            "Sets",
            image=ecs.ContainerImage.from_registry(image_uri(self, tenant, LEARNING_IMAGE)),
            entry_point=["python", "-P", "-m", "assistant.options.models_lab.make_sets"],
            readonly_root_filesystem=True,
            environment=environment,
            linux_parameters=linux,
            logging=ecs.LogDrivers.aws_logs(log_group=log_group, stream_prefix="sets"),
        )
        tmp = ecs.MountPoint(source_volume="Tmp", container_path="/tmp", read_only=False)  # noqa: S108
        container.add_mount_points(tmp)
        vpc = scope.import_vpc(network)
        group = ec2.SecurityGroup.from_security_group_id(
            self, "Group", network.security_group_ids[Workload.LEARNING], mutable=False
        )
        schedule = scheduler.Schedule(
            self,
            "Schedule",
            schedule=scheduler.ScheduleExpression.rate(
                cdk.Duration.days(tenant.config.learning.sets_every_days)
            ),
            target=_run_task(
                ecs.Cluster.from_cluster_attributes(self, "Cluster", cluster_name=cluster_name, vpc=vpc),
                task_definition=definition,
                security_groups=[group],
                vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
                max_event_age=cdk.Duration.minutes(_MOST_LATE_MINUTES),
            ),
        )
        after_its_role(schedule)

    def _role(self, name: str, description: str, *, through: tuple[str, ...] = ()) -> WorkloadRole:
        return WorkloadRole(
            self, name, assumed_by="ecs-tasks.amazonaws.com", description=description, through=through
        )


def _statements(scope: Construct, foundation: Foundation, training_bucket: str) -> list[iam.PolicyStatement]:
    """Let the task read what a set is made of, each part by its folder or partitions, and put sets.

    Without ``s3:ListBucket`` S3 answers that access is denied where an object is missing: a text or document
    that expired.
    """
    data, keys, tenant = foundation.data, foundation.keys, foundation.tenant
    names = (data.labels_bucket, data.texts_bucket, data.documents_bucket, training_bucket)
    labels, texts, documents, training = (bucket_arn(scope, name) for name in names)
    prefix = ServiceSettings.documents_prefix

    def items(table: str, actions: tuple[str, ...], partitions: tuple[str, ...]) -> iam.PolicyStatement:
        arn = resource_arn(scope, "dynamodb", "table", table)
        return allow(actions, arn, conditions=of_partitions(partitions))

    return [
        allow("s3:GetObject", f"{labels}/events/*", f"{texts}/texts/*", f"{documents}/{prefix}*"),
        allow("s3:ListBucket", labels, texts, documents),
        items(data.records_table, _GET, ("answer#*",)),
        items(data.states_table, _GET, ("documents",)),
        items(data.events_table, _GET, ERASURE_PARTITIONS),
        items(data.desk_table, (*_GET, "dynamodb:Query"), desk_partitions(APPROVED)),
        allow("s3:PutObject", f"{training}/{SETS}*"),
        allow(USE_KEY, keys.data_key_arn, conditions=via(tenant, "s3", "dynamodb")),
        allow("kms:Decrypt", keys.feedback_key_arn, conditions=via(tenant, "s3")),
    ]
