"""One task of the orchestrator: its roles, the service's container, the trace collector beside it.

Permissions of a task of the orchestrator: what the service's adapters call, and on what.

No statement has a wildcard action.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from assistant.settings.deployed_names import (
    DESK,
    EVENTS,
    LINK_SECRET_PURPOSE,
    LIVE_READS_SECRET_PURPOSE,
    RECORDS,
    STATES,
)
from assistant.settings.model_artifacts import CALLERS_PREFIX
from assistant.settings.process import ServiceSettings
from stacks.data.buckets import document_statements, table_statements
from stacks.network.security_groups import OPERATIONS_PORT, TASK_PORT
from stacks.outputs import IngestionOutputs, KeysOutputs, ModelsOutputs
from stacks.processes import PULL_IMAGE, TASK_IMAGES, TenantFileAsset, image_repository_arn, image_uri
from stacks.roles import (
    USE_KEY,
    WorkloadRole,
    allow,
    bucket_arn,
    parameter_arn,
    resource_arn,
    system_secret_arn,
    via,
)
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation

CONTAINER = "Service"
OTLP_ENDPOINT = "http://127.0.0.1:4318"
"""Containers of a task share a loopback: nothing outside the task reaches the collector."""
_STOP_TIMEOUT_S = 120
"""From SIGTERM to SIGKILL: Fargate's maximum."""
_HEALTH_CHECK = ("python", "-P", "-m", "assistant.api.alive")
"""As in containers/orchestrator/Dockerfile: ECS ignores the health check of an image."""
_USER = "10001:10001"
_EXEC_FOLDERS = ("/managed-agents", "/var/lib/amazon/ssm", "/var/log/amazon/ssm")
"""Folders that the agent of ECS Exec writes to. With a read-only root they must be volumes; AWS's guide calls
that unsupported, users run it (github.com/aws/containers-roadmap/issues/1359)."""
_COLLECTOR_MEMORY_MIB = 256
_COLLECTOR_CONFIG = "AOT_CONFIG_CONTENT"
"""Variable from which the AWS Distro for OpenTelemetry reads its configuration, instead of a file."""


class OrchestratorTask(Construct):
    """``definition`` runs the program of ``containers/orchestrator``.

    A service that runs it must depend on ``role`` and ``execution_role``, with everything below them.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        foundation: Foundation,
        settings: Mapping[str, Any],
        statements: Sequence[iam.PolicyStatement],
        log_group: logs.ILogGroup,
    ) -> None:
        """``settings`` are fields of ServiceSettings; the task adds its own."""
        super().__init__(scope, construct_id)
        tenant = self._tenant = foundation.tenant
        self._log_group = log_group
        self.role = WorkloadRole(
            self,
            "Role",
            assumed_by="ecs-tasks.amazonaws.com",
            description=f"What the orchestrator of {tenant.name} may call",
        )
        self.role.may(*statements)
        self.execution_role = self._execution_role()
        tenant_file = TenantFileAsset(self, "TenantFile", tenant=tenant)
        tenant_file.grant_read(self.role)
        self.definition = self._definition()
        environment = foundation.environment(
            ServiceSettings,
            host="0.0.0.0",  # noqa: S104 - the task's one interface, behind its security group
            port=TASK_PORT,
            tls="self-signed",
            operations_port=OPERATIONS_PORT,
            tenant_file_s3=tenant_file.uri,
            otlp_endpoint=OTLP_ENDPOINT,
            **settings,
        )
        service = self._service(environment)
        # Starts before the service and stops after it, so that it receives the last spans.
        service.add_container_dependencies(
            ecs.ContainerDependency(
                container=self._collector(), condition=ecs.ContainerDependencyCondition.START
            )
        )

    def _execution_role(self) -> WorkloadRole:
        """Return the role with which Fargate pulls images and writes the log, through the task's own
        interface."""
        role = WorkloadRole(
            self,
            "ExecutionRole",
            assumed_by="ecs-tasks.amazonaws.com",
            description=f"How Fargate starts the orchestrator of {self._tenant.name}",
            through=("ecr.dkr", "s3"),  # layers of images come from a bucket of the region's registry
        )
        # The token opens no repository, and the action supports no resource (Service Authorization
        # Reference).
        role.may(allow("ecr:GetAuthorizationToken", "*"))
        repositories = [image_repository_arn(self, self._tenant, name) for name in TASK_IMAGES]
        role.may(allow(PULL_IMAGE, *repositories))
        # The log driver of the containers gives the role this permission by itself.
        role.declare([allow(("logs:CreateLogStream", "logs:PutLogEvents"), self._log_group.log_group_arn)])
        return role

    def _definition(self) -> ecs.FargateTaskDefinition:
        tasks = self._tenant.config.tasks
        architectures = {"X86_64": ecs.CpuArchitecture.X86_64, "ARM64": ecs.CpuArchitecture.ARM64}
        return ecs.FargateTaskDefinition(
            self,
            "Definition",
            cpu=tasks.cpu_units,
            memory_limit_mib=tasks.memory_mib,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=architectures[tasks.architecture],
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            task_role=cast("iam.IRole", self.role),
            execution_role=cast("iam.IRole", self.execution_role),
        )

    def _service(self, environment: dict[str, str]) -> ecs.ContainerDefinition:
        service = self.definition.add_container(
            CONTAINER,
            image=ecs.ContainerImage.from_registry(image_uri(self, self._tenant, "orchestrator")),
            essential=True,
            user=_USER,
            readonly_root_filesystem=True,
            environment=environment,
            port_mappings=[ecs.PortMapping(container_port=TASK_PORT, protocol=ecs.Protocol.TCP)],
            stop_timeout=cdk.Duration.seconds(_STOP_TIMEOUT_S),
            linux_parameters=self._linux_parameters(),
            logging=self._logging("service"),
            health_check=ecs.HealthCheck(
                command=["CMD", *_HEALTH_CHECK],
                interval=cdk.Duration.seconds(30),
                timeout=cdk.Duration.seconds(5),
                retries=3,
                start_period=cdk.Duration.seconds(60),
            ),
        )
        self._mount(service, "Tmp", "/tmp")  # noqa: S108 - a volume of the task's own
        if self._tenant.config.tasks.exec_enabled:
            for number, folder in enumerate(_EXEC_FOLDERS, start=1):
                self._mount(service, f"Exec{number}", folder)
        return service

    def _linux_parameters(self) -> ecs.LinuxParameters:
        """The service needs no capability of Linux. A session of ECS Exec starts as root, with the default
        ones, and leaves processes behind that an init process must reap."""
        has_sessions = self._tenant.config.tasks.exec_enabled
        parameters = ecs.LinuxParameters(self, "Linux", init_process_enabled=has_sessions)
        if not has_sessions:
            parameters.drop_capabilities(ecs.Capability.ALL)
        return parameters

    def _mount(self, container: ecs.ContainerDefinition, name: str, path: str) -> None:
        """Mount an empty volume of the task. The image's VOLUME line gives /tmp its owner and mode; without
        it only root could write there (ECS developer guide, "Use bind mounts with Amazon ECS")."""
        self.definition.add_volume(name=name)
        container.add_mount_points(ecs.MountPoint(source_volume=name, container_path=path, read_only=False))

    def _logging(self, prefix: str) -> ecs.LogDriver:
        """Return a driver that drops lines when its buffer is full: a slow log service must not delay
        answers."""
        return ecs.LogDrivers.aws_logs(
            log_group=self._log_group,
            stream_prefix=prefix,
            mode=ecs.AwsLogDriverMode.NON_BLOCKING,
            max_buffer_size=cdk.Size.mebibytes(25),
        )

    def _collector(self) -> ecs.ContainerDefinition:
        """Add the trace collector. The task goes on without it: answers matter more than their traces."""
        config = collector_config(region=self._tenant.place.region)
        collector = self.definition.add_container(
            "Traces",
            image=ecs.ContainerImage.from_registry(image_uri(self, self._tenant, "otel_collector")),
            essential=False,
            enable_restart_policy=True,
            restart_attempt_period=cdk.Duration.seconds(60),
            user=_USER,
            readonly_root_filesystem=True,
            memory_limit_mib=_COLLECTOR_MEMORY_MIB,
            environment={_COLLECTOR_CONFIG: json.dumps(config)},
            logging=self._logging("traces"),
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
    """Return the collector's configuration: spans are bounded in memory, batched, and sent to the region's
    X-Ray."""
    return {
        "extensions": {"health_check": {"endpoint": "127.0.0.1:13133"}},
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": OTLP_ENDPOINT.removeprefix("http://")}}}},
        "processors": {
            "memory_limiter": {
                "check_interval": "1s",
                "limit_mib": _COLLECTOR_MEMORY_MIB * 3 // 4,
                "spike_limit_mib": _COLLECTOR_MEMORY_MIB // 8,
            },
            "batch": {"timeout": "5s", "send_batch_size": 50},
        },
        # `local_mode` does not ask an instance's metadata, which Fargate does not have.
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


def streams_per_task(tenant: DeployedTenant) -> int:
    """Return the average of answers in progress per task at which another task starts: half of what a task
    admits, so that the load can double in the minutes that a new task takes."""
    return math.ceil(tenant.config.limits.streams / 2)


_CALLERS_FILES = ("artifact.json", "tokenizer.json")
"""Files of a model artifact that its callers need."""


def task_statements(
    scope: Construct, *, foundation: Foundation, models: ModelsOutputs, ingestion: IngestionOutputs
) -> list[iam.PolicyStatement]:
    """Return the statements of the task role."""
    tenant, keys, data = foundation.tenant, foundation.keys, foundation.data
    # Endpoints by name: the endpoints themselves are absent while the tenant is paused.
    embedding = resource_arn(scope, "sagemaker", "endpoint", models.embedding_endpoint_name)
    llm = resource_arn(scope, "sagemaker", "endpoint", models.llm_endpoint_name)
    # Only paths of a search and of what the index was built with: a request that writes is refused, whatever
    # the domain's own roles may allow one day.
    alias = f"{data.domain_arn}/{tenant.search_alias}"
    # The alias says which version is live; an answer then names that version.
    versions = f"{data.domain_arn}/*-passages-v*"
    tables = (
        (RECORDS, data.records_table),
        (EVENTS, data.events_table),
        (STATES, data.states_table),
        (DESK, data.desk_table),
    )
    parameters = [
        tenant.jwks_parameter,
        models.power_parameter,
        tenant.link_secret_parameter,
        tenant.live_reads_secret_parameter,
    ]
    if tenant.callable_systems:
        parameters += [f"{tenant.system_switches}/{entry.name}" for entry in tenant.callable_systems]
    if tenant.config.care_context is not None:
        parameters.append(tenant.config.care_context.jwks_parameter or tenant.care_jwks_parameter)
    names = sorted({tenant.config.embedding.model, tenant.config.generation.model})
    folder = f"{bucket_arn(scope, data.models_bucket)}/{CALLERS_PREFIX}"
    return [
        allow("sagemaker:InvokeEndpoint", embedding),
        allow("sagemaker:InvokeEndpointWithResponseStream", llm),
        allow("es:ESHttpPost", f"{alias}/_search", f"{versions}/_search"),
        allow("es:ESHttpGet", f"{alias}/_mapping", f"{versions}/_mapping"),
        *(
            statement
            for definition, name in tables
            for statement in table_statements(scope, definition, name, actions=definition.service_actions)
        ),
        *document_statements(scope, data.documents_bucket),
        allow("sqs:SendMessage", ingestion.ingestion_queue_arn, ingestion.withdrawals_queue_arn),
        allow("ssm:GetParameter", *(parameter_arn(scope, name) for name in parameters)),
        *_key_statements(tenant, keys),
        allow("s3:GetObject", *(f"{folder}{name}/{file}" for name in names for file in _CALLERS_FILES)),
        *_system_statements(scope, tenant, data.system_secrets),
        # The trace collector's. X-Ray supports no resources (Service Authorization Reference).
        allow("xray:PutTraceSegments", "*"),
    ]


def _system_statements(
    scope: Construct, tenant: DeployedTenant, created: Mapping[str, str]
) -> list[iam.PolicyStatement]:
    """Let the task read the secrets of live systems, and sign requests to those that ask for a signature.

    ``created``: ARNs of the deployment's own secrets. Of the company's only the name is known.
    """
    secrets = [
        created.get(entry.name) or system_secret_arn(scope, name)
        for entry in tenant.callable_systems
        if (name := tenant.secret_of(entry)) is not None
    ]
    signed = [entry for entry in tenant.callable_systems if entry.auth == "sigv4"]
    statements = [
        allow(f"{entry.sigv4_service}:Invoke", str(entry.invoke_arn)) for entry in signed if entry.invoke_arn
    ]
    if secrets:
        statements.append(allow("secretsmanager:GetSecretValue", *secrets))
    return statements


def _key_statements(tenant: DeployedTenant, keys: KeysOutputs) -> list[iam.PolicyStatement]:
    """Let the task use keys through its stores, and decrypt the secrets of document links and of pseudonyms
    in the record of live reads."""
    context = {
        "kms:EncryptionContext:tenant": tenant.name,
        "kms:EncryptionContext:purpose": [LINK_SECRET_PURPOSE, LIVE_READS_SECRET_PURPOSE],
    }
    stores = via(tenant, "s3", "dynamodb", "sqs", *(["secretsmanager"] if tenant.own_secrets else []))
    return [
        allow(USE_KEY, keys.data_key_arn, conditions=stores),
        allow("kms:Decrypt", keys.data_key_arn, conditions={"StringEquals": context}),
        allow("kms:Decrypt", keys.models_key_arn, conditions=via(tenant, "s3")),
    ]


def session_statements(*, log_group_arn: str, logs_key_arn: str) -> list[iam.PolicyStatement]:
    """Return what the agent of ECS Exec needs: its channels, which support no resources, and the log and key
    that record a session (ECS Developer Guide, "Monitor Amazon ECS containers with ECS Exec")."""
    channels = [
        f"ssmmessages:{verb}{channel}"
        for verb in ("Create", "Open")
        for channel in ("ControlChannel", "DataChannel")
    ]
    return [
        allow([*channels, "logs:DescribeLogGroups"], "*"),
        allow(("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"), log_group_arn),
        allow("kms:Decrypt", logs_key_arn),
    ]
