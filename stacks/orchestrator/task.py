"""The collector of traces beside the service: takes spans on the task's own loopback, hands them to X-Ray."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from assistant.settings.process import ServiceSettings
from stacks.network.security_groups import OPERATIONS_PORT, TASK_PORT
from stacks.orchestrator.permissions import TaskRights
from stacks.processes import (
    TASK_IMAGES,
    TenantFileAsset,
    image_repository_arn,
    image_uri,
    process_environment,
)
from stacks.roles import WorkloadRole
from stacks.tenant import DeployedTenant

OTLP_ENDPOINT = "http://127.0.0.1:4318"
"""Containers of a task share their network: nothing else reaches it, and no security group knows it."""
_USER = "10001:10001"
_MEMORY_MIB = 256
_CONFIG_VARIABLE = "AOT_CONFIG_CONTENT"
"""Where the AWS Distro for OpenTelemetry takes its configuration from, instead of a file."""


def add_trace_collector(
    definition: ecs.FargateTaskDefinition, *, tenant: DeployedTenant, image: str, logging: ecs.LogDriver
) -> ecs.ContainerDefinition:
    """Add the container. Its end is not the task's: answers matter more than their traces."""
    collector = definition.add_container(
        "Traces",
        image=ecs.ContainerImage.from_registry(image),
        essential=False,
        enable_restart_policy=True,
        restart_attempt_period=cdk.Duration.seconds(60),
        user=_USER,
        readonly_root_filesystem=True,
        memory_limit_mib=_MEMORY_MIB,
        environment={_CONFIG_VARIABLE: json.dumps(collector_config(region=tenant.place.region))},
        logging=logging,
        stop_timeout=cdk.Duration.seconds(30),
        # The image's own program; it asks the extension `health_check` below.
        health_check=ecs.HealthCheck(
            command=["CMD", "/healthcheck"],
            interval=cdk.Duration.seconds(30),
            timeout=cdk.Duration.seconds(5),
            start_period=cdk.Duration.seconds(10),
        ),
    )
    collector.add_ulimits(ecs.Ulimit(name=ecs.UlimitName.NOFILE, soft_limit=4096, hard_limit=4096))
    return collector


def collector_config(*, region: str) -> dict[str, Any]:
    """Return the collector's configuration: what comes is bounded in memory, batched, sent to the region."""
    return {
        "extensions": {"health_check": {"endpoint": "127.0.0.1:13133"}},
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": OTLP_ENDPOINT.removeprefix("http://")}}}},
        "processors": {
            "memory_limiter": {
                "check_interval": "1s",
                "limit_mib": _MEMORY_MIB * 3 // 4,
                "spike_limit_mib": _MEMORY_MIB // 8,
            },
            "batch": {"timeout": "5s", "send_batch_size": 50},
        },
        # `local_mode` asks no instance's metadata, of which Fargate has none.
        "exporters": {"awsxray": {"region": region, "local_mode": True}},
        "service": {
            "extensions": ["health_check"],
            "pipelines": {
                "traces": {
                    "receivers": ["otlp"],
                    "processors": ["memory_limiter", "batch"],
                    "exporters": ["awsxray"],
                }
            },
            "telemetry": {"logs": {"level": "warn"}},
        },
    }


# One task of the orchestrator: its roles, its container, the collector of traces beside it.


CONTAINER = "Service"
STOP_TIMEOUT_S = 120
"""From SIGTERM to SIGKILL: the most that Fargate gives."""
HEALTH_CHECK = ("python", "-P", "-m", "assistant.api.alive")
"""As in containers/orchestrator/Dockerfile: ECS passes over what an image says of its health."""
_FOLDERS_OF_EXEC = ("/managed-agents", "/var/lib/amazon/ssm", "/var/log/amazon/ssm")
"""What the agent of ECS Exec writes to. With a read-only root it needs them as volumes; AWS's guide calls
that unsupported, users run it (github.com/aws/containers-roadmap/issues/1359)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """What the task is to be told and allowed."""

    environment: Mapping[str, Any]
    """By field of ServiceSettings; the task adds what it knows itself."""
    rights: TaskRights
    log_group: logs.ILogGroup


class OrchestratorTask(Construct):
    """``definition`` runs the very program of ``containers/orchestrator``.

    What runs it must wait for all below ``role`` and ``execution_role``.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, tenant: DeployedTenant, plan: TaskPlan
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant = tenant
        self._plan = plan
        self.role = self._task_role()
        self.execution_role = self._execution_role()
        self._tenant_file = TenantFileAsset(self, "TenantFile", tenant=tenant)
        self._tenant_file.grant_read(self.role)
        self.definition = self._definition()
        self._add_containers()

    def _task_role(self) -> WorkloadRole:
        role = WorkloadRole(
            self,
            "Role",
            assumed_by="ecs-tasks.amazonaws.com",
            description=f"What the orchestrator of {self._tenant.name} may call",
        )
        for statement in self._plan.rights.statements():
            role.add_to_policy(statement)
        return role

    def _definition(self) -> ecs.FargateTaskDefinition:
        tasks = self._tenant.config.tasks
        architecture = {
            "X86_64": ecs.CpuArchitecture.X86_64,
            "ARM64": ecs.CpuArchitecture.ARM64,
        }[tasks.architecture]
        return ecs.FargateTaskDefinition(
            self,
            "Definition",
            cpu=tasks.cpu_units,
            memory_limit_mib=tasks.memory_mib,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=architecture, operating_system_family=ecs.OperatingSystemFamily.LINUX
            ),
            task_role=cast("iam.IRole", self.role),
            execution_role=cast("iam.IRole", self.execution_role),
        )

    def _execution_role(self) -> WorkloadRole:
        """Return the role with which Fargate pulls the images and writes the log, through the task's own
        network interface."""
        role = WorkloadRole(
            self,
            "ExecutionRole",
            assumed_by="ecs-tasks.amazonaws.com",
            description=f"How Fargate starts the orchestrator of {self._tenant.name}",
            through=("ecr.dkr", "s3"),  # layers of images come from a bucket of the region's registry
        )
        role.add_to_policy(
            # It opens no repository, and knows no resource (Service Authorization Reference).
            iam.PolicyStatement(actions=["ecr:GetAuthorizationToken"], resources=["*"])
        )
        role.add_to_policy(
            iam.PolicyStatement(
                actions=[
                    "ecr:BatchCheckLayerAvailability",
                    "ecr:BatchGetImage",
                    "ecr:GetDownloadUrlForLayer",
                ],
                resources=[image_repository_arn(self, self._tenant, name) for name in TASK_IMAGES],
            )
        )
        return role

    def _add_containers(self) -> None:
        service = self.definition.add_container(
            CONTAINER,
            image=ecs.ContainerImage.from_registry(image_uri(self, self._tenant, "orchestrator")),
            essential=True,
            user=_USER,
            readonly_root_filesystem=True,
            environment=self._environment(),
            port_mappings=[ecs.PortMapping(container_port=TASK_PORT, protocol=ecs.Protocol.TCP)],
            stop_timeout=cdk.Duration.seconds(STOP_TIMEOUT_S),
            linux_parameters=self._linux_parameters(),
            logging=self._logging("service"),
            health_check=ecs.HealthCheck(
                command=["CMD", *HEALTH_CHECK],
                interval=cdk.Duration.seconds(30),
                timeout=cdk.Duration.seconds(5),
                retries=3,
                start_period=cdk.Duration.seconds(60),
            ),
        )
        self._mount(service, "Tmp", "/tmp")  # noqa: S108 - a volume of the task's own
        if self._tenant.config.tasks.exec_enabled:
            for number, folder in enumerate(_FOLDERS_OF_EXEC, start=1):
                self._mount(service, f"Exec{number}", folder)
        collector = add_trace_collector(
            self.definition,
            tenant=self._tenant,
            image=image_uri(self, self._tenant, "otel_collector"),
            logging=self._logging("traces"),
        )
        # Started before the service and stopped after it: the last spans find it there.
        service.add_container_dependencies(
            ecs.ContainerDependency(container=collector, condition=ecs.ContainerDependencyCondition.START)
        )

    def _linux_parameters(self) -> ecs.LinuxParameters:
        """No capability of Linux is needed to answer questions. Sessions of ECS Exec start as root, with
        those that a container has by default, and leave processes behind that somebody must reap."""
        is_entered = self._tenant.config.tasks.exec_enabled
        parameters = ecs.LinuxParameters(self, "Linux", init_process_enabled=is_entered)
        if not is_entered:
            parameters.drop_capabilities(ecs.Capability.ALL)
        return parameters

    def _mount(self, container: ecs.ContainerDefinition, name: str, path: str) -> None:
        """Mount an empty volume of the task. The image's VOLUME line gives /tmp its owner and mode; else it
        would be root's alone (ECS developer guide, "Use bind mounts with Amazon ECS")."""
        self.definition.add_volume(name=name)
        container.add_mount_points(ecs.MountPoint(source_volume=name, container_path=path, read_only=False))

    def _environment(self) -> dict[str, str]:
        known = {
            "host": "0.0.0.0",  # noqa: S104 - the task's one interface, behind its security group
            "port": TASK_PORT,
            "tls": "self-signed",
            "operations_port": OPERATIONS_PORT,
            "tenant_file_s3": self._tenant_file.uri,
            "otlp_endpoint": OTLP_ENDPOINT,
        }
        return process_environment(ServiceSettings, known | dict(self._plan.environment))

    def _logging(self, prefix: str) -> ecs.LogDriver:
        return ecs.LogDrivers.aws_logs(
            log_group=self._plan.log_group,
            stream_prefix=prefix,
            # A log service that does not answer must not hold answers up; what does not fit is lost.
            mode=ecs.AwsLogDriverMode.NON_BLOCKING,
            max_buffer_size=cdk.Size.mebibytes(25),
        )


def streams_per_task(tenant: DeployedTenant) -> int:
    """Return how many answers in progress a task has on average before another is started: half of what it
    admits, so that the load can double in the minutes that a new task takes."""
    return math.ceil(tenant.config.limits.streams / 2)
