"""The orchestrator: tasks on Fargate in the tenant's zones, behind the load balancer of the edge.

A task has two roles (the execution role, with which Fargate starts it, and the task role, with which the
program calls AWS), the service's container and the trace collector beside it. The task role allows exactly
what the service's adapters call, on the resources that they use; no statement has a wildcard action.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from assistant.process.settings import UPLOADS_PREFIX, ServiceSettings
from assistant.tenant import deployed_names
from assistant.tenant.deployed_names import (
    DESK,
    EVENTS,
    LINK_SECRET_PURPOSE,
    LIVE_READS_SECRET_PURPOSE,
    RECORDS,
    STATES,
)
from assistant.tenant.manifests import CALLERS_PREFIX
from stacks.buckets import document_statements
from stacks.ingestion import grant_search_access
from stacks.network import OPERATIONS_PORT, TASK_PORT
from stacks.observability.alarms import published_by
from stacks.options import option_stacks
from stacks.outputs import (
    IngestionOutputs,
    KeysOutputs,
    ModelsOutputs,
    NetworkOutputs,
    OrchestratorOutputs,
    Workload,
)
from stacks.policy import (
    DOCUMENTS_BUCKET,
    INBOX_BUCKET,
    OWN_INLINE_POLICY,
    exceptions,
    hipaa,
    nag,
    of_data_stack,
    wildcard,
)
from stacks.processes import PULL_IMAGE, TASK_IMAGES, TenantFileAsset, image_repository_arn, image_uri
from stacks.roles import (
    ONLY_ES256,
    USE_KEY,
    Duty,
    WorkloadRole,
    allow,
    bucket_arn,
    parameter_arn,
    resource_arn,
    secret_arns,
    table_statements,
    tag_duty,
    via,
)
from stacks.tenant import DeployedTenant, release
from stacks.tenant_stack import Foundation, TenantStack, described, tenant_log_group

CONTAINER = "Service"
OTLP_ENDPOINT = "http://127.0.0.1:4318"
"""Address of the trace collector. Containers of a task share a loopback address, so nothing outside the task
reaches it."""
_STOP_TIMEOUT_S = 120
"""Time from SIGTERM to SIGKILL: Fargate's maximum."""
_HEALTH_CHECK = ("python", "-P", "-m", "assistant.service.alive")
"""Equal to the health check in containers/orchestrator/Dockerfile, because ECS ignores that of an image."""
_USER = "10001:10001"
_EXEC_FOLDERS = ("/managed-agents", "/var/lib/amazon/ssm", "/var/log/amazon/ssm")
"""Folders that the agent of ECS Exec writes to. With a read-only root they must be volumes; AWS's guide calls
that unsupported, users run it (github.com/aws/containers-roadmap/issues/1359)."""
_COLLECTOR_MEMORY_MIB = 256
_COLLECTOR_CONFIG = "AOT_CONFIG_CONTENT"
"""Variable from which the AWS Distro for OpenTelemetry reads its configuration, instead of a file."""


class OrchestratorTask(Construct):
    """The task definition that runs the program of ``containers/orchestrator``, and its roles.

    A service that runs ``definition`` must depend on ``role`` and ``execution_role``: the definition refers
    to the roles, but not to their policies.
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
        """``settings``: fields of ServiceSettings by name; the task adds those that follow from itself (port,
        TLS). ``statements``: of the task role."""
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
        tag_duty(self.role, Duty.UPLOADER)
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
            memory_mib=tenant.config.tasks.memory_mib,
            tenant_file_s3=tenant_file.uri,
            otlp_endpoint=OTLP_ENDPOINT,
            **settings,
        )
        service = self._service(environment)
        # The collector starts before the service and stops after it, so that it receives the last spans.
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
        return ecs.FargateTaskDefinition(
            self,
            "Definition",
            cpu=self._tenant.config.task_cpu_units,
            memory_limit_mib=tasks.memory_mib,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.of(self._tenant.config.task_architecture),
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
        """Return parameters without any Linux capability, which the service does not need.

        With ECS Exec the default capabilities stay, because a session starts as root, and an init process
        reaps the processes that sessions leave behind.
        """
        has_sessions = self._tenant.config.tasks.exec_enabled
        parameters = ecs.LinuxParameters(self, "Linux", init_process_enabled=has_sessions)
        if not has_sessions:
            parameters.drop_capabilities(ecs.Capability.ALL)
        return parameters

    def _mount(self, container: ecs.ContainerDefinition, name: str, path: str) -> None:
        """Mount an empty volume of the task, writable where the root is read-only.

        A volume takes owner and mode from the image's VOLUME line for the path; without such a line only root
        could write there (ECS developer guide, "Use bind mounts with Amazon ECS").
        """
        self.definition.add_volume(name=name)
        container.add_mount_points(ecs.MountPoint(source_volume=name, container_path=path, read_only=False))

    def _logging(self, prefix: str) -> ecs.LogDriver:
        """Return a driver that drops lines when its buffer is full, so that a slow log service delays no
        answer."""
        return ecs.LogDrivers.aws_logs(
            log_group=self._log_group,
            stream_prefix=prefix,
            mode=ecs.AwsLogDriverMode.NON_BLOCKING,
            max_buffer_size=cdk.Size.mebibytes(25),
        )

    def _collector(self) -> ecs.ContainerDefinition:
        """Add the trace collector. It is not essential: the task goes on when it fails, and ECS restarts
        it."""
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
            # A program of the image; it asks the extension `health_check` of `collector_config`.
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
    """Return the target of the scaling: answers in progress per task, half of what a task admits. So the load
    can double in the minutes that a new task takes."""
    return math.ceil(tenant.config.limits.streams / 2)


_CALLERS_FILES = ("artifact.json", "tokenizer.json")
"""Files of a model artifact that its callers need."""


def task_statements(
    scope: Construct, *, foundation: Foundation, models: ModelsOutputs, ingestion: IngestionOutputs
) -> list[iam.PolicyStatement]:
    """Return the statements of the task role."""
    tenant, keys, data = foundation.tenant, foundation.keys, foundation.data
    # By name: the endpoints do not exist while the tenant is paused.
    embeddings, llms = (
        [resource_arn(scope, "sagemaker", "endpoint", name) for name in names if name is not None]
        for names in (models.embedding_endpoint_names, (models.llm_endpoint_name,))
    )
    # Only the paths of searches and of the mapping: so IAM refuses writes, whatever the domain's own roles
    # allow.
    alias = f"{data.domain_arn}/{tenant.search_alias}"
    # The service first asks the alias which version is live, and then searches that version.
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
        tenant.revocations_parameter,
    ]
    if tenant.callable_systems:
        parameters += [f"{tenant.system_switches}/{entry.name}" for entry in tenant.callable_systems]
    if tenant.config.care_context is not None:
        parameters.append(tenant.config.care_context.jwks_parameter or tenant.care_jwks_parameter)
    names = sorted(manifest.served_name for manifest in tenant.served)
    folder = f"{bucket_arn(scope, data.models_bucket)}/{CALLERS_PREFIX}"
    inbox = bucket_arn(scope, data.inbox_bucket)
    return [
        allow("sagemaker:InvokeEndpoint", *embeddings),
        *(allow("sagemaker:InvokeEndpointWithResponseStream", llm) for llm in llms),
        *(statement for option in option_stacks() for statement in option.task_statements(scope, tenant)),
        allow("es:ESHttpPost", f"{alias}/_search", f"{versions}/_search"),
        allow("es:ESHttpGet", f"{alias}/_mapping", f"{versions}/_mapping"),
        *(
            statement
            for definition, name in tables
            for statement in table_statements(scope, definition, name, actions=definition.service_actions)
        ),
        *document_statements(scope, data.documents_bucket),
        allow(("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"), f"{inbox}/{UPLOADS_PREFIX}*"),
        allow(("s3:ListBucket", "s3:ListBucketMultipartUploads"), inbox),
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
    """Let the task read the secrets of live systems, and sign requests to those with ``auth = "sigv4"``.

    ``created``: ARNs of the secrets that the deployment created, by the system's name.
    """
    secrets = secret_arns(scope, tenant, tenant.callable_systems, created)
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
        allow("kms:Sign", keys.receipt_key_arn, conditions=ONLY_ES256),
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


_START_S = 60
"""Grace period in which a failing health check does not end a new task: it fetches two tokenizers first."""
_SCALE_IN_S = 300
_SCALE_OUT_S = 60
_MAX_FAILURES_PER_MINUTE = 5
"""Unexpected failures, of all tasks, at which a deployment is rolled back. A healthy service has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideTheService:
    """What an option's function gets, which adds other tasks to the service's cluster."""

    foundation: Foundation
    ingestion: IngestionOutputs
    service: ecs.FargateService
    execution_role: WorkloadRole
    log_group: logs.ILogGroup


class OrchestratorStack(TenantStack):
    """Cluster, task, service behind the edge's target group, scaling, and what options add."""

    def __init__(
        self,
        scope: Construct,
        *,
        foundation: Foundation,
        models: ModelsOutputs,
        ingestion: IngestionOutputs,
        target_group_arn: str,
    ) -> None:
        tenant, keys, network = foundation.tenant, foundation.keys, foundation.network
        super().__init__(scope, "Orchestrator", tenant=tenant, data_class="phi")
        self._keys = keys
        self._log_group = tenant_log_group(self, "Logs", logs_key_arn=keys.logs_key_arn)
        task = OrchestratorTask(
            self,
            "Task",
            foundation=foundation,
            settings=_settings(self, foundation, models, ingestion),
            statements=task_statements(self, foundation=foundation, models=models, ingestion=ingestion),
            log_group=self._log_group,
        )
        cluster = self._cluster(network)
        service = self._service(cluster, task, network)
        reader = grant_search_access(
            self,
            "IndexReader",
            function_arn=ingestion.schema_function_arn,
            role_arns=[task.role.role_arn],
            access="read",
        )
        service.node.add_dependency(reader)
        # The definition refers to the roles, not to their policies: a task that starts before its role may
        # pull the image fails, and three such failures make ECS roll the deployment back.
        service.node.add_dependency(task.role, task.execution_role)
        resource = cast("ecs.CfnService", service.node.default_child)
        # Set on the resource: CDK's `attach_to…` would add rules to security groups, which belong to the
        # network stack.
        resource.load_balancers = [
            ecs.CfnService.LoadBalancerProperty(
                container_name=CONTAINER, container_port=TASK_PORT, target_group_arn=target_group_arn
            )
        ]
        if tenant.config.tasks.exec_enabled:
            # Set on the resource: CDK's own grant allows more than the log that records sessions.
            resource.enable_execute_command = True
            group = self._log_group.log_group_arn
            task.role.may(*session_statements(log_group_arn=group, logs_key_arn=keys.logs_key_arn))
        self._scale(service)
        beside = BesideTheService(
            foundation=foundation,
            ingestion=ingestion,
            service=service,
            execution_role=task.execution_role,
            log_group=self._log_group,
        )
        for option in option_stacks():
            option.add_to_orchestrator(self, beside)
        self.outputs = OrchestratorOutputs(
            cluster_name=cluster.cluster_name,
            service_name=service.service_name,
            log_group_name=self._log_group.log_group_name,
        )

    def _cluster(self, network: NetworkOutputs) -> ecs.Cluster:
        sessions = None
        if self.tenant.config.tasks.exec_enabled:
            sessions = ecs.ExecuteCommandConfiguration(
                kms_key=kms.Key.from_key_arn(self, "SessionsKey", self._keys.logs_key_arn),
                logging=ecs.ExecuteCommandLogging.OVERRIDE,
                log_configuration=ecs.ExecuteCommandLogConfiguration(
                    cloud_watch_log_group=self._log_group, cloud_watch_encryption_enabled=True
                ),
            )
        cluster = ecs.Cluster(
            self,
            "Cluster",
            cluster_name=self.tenant.full_name,
            vpc=self.import_vpc(network),
            container_insights_v2=(
                ecs.ContainerInsights.DISABLED if self.tenant.is_dev else ecs.ContainerInsights.ENABLED
            ),
            execute_command_configuration=sessions,
        )
        if not self.tenant.is_dev:
            # Created first: otherwise ECS creates the group of Container Insights itself, without key or
            # retention.
            name = self.tenant.insights_log_group
            group = tenant_log_group(self, "Insights", logs_key_arn=self._keys.logs_key_arn, name=name)
            cluster.node.add_dependency(group)
        return cluster

    def _service(
        self, cluster: ecs.Cluster, task: OrchestratorTask, network: NetworkOutputs
    ) -> ecs.FargateService:
        group = ec2.SecurityGroup.from_security_group_id(
            self, "Group", network.security_group_ids[Workload.ORCHESTRATOR], mutable=False
        )
        return ecs.FargateService(
            self,
            "Service",
            cluster=cluster,
            task_definition=task.definition,
            # No count: each update would reset what autoscaling has reached. The minimum is `min_tasks`.
            min_healthy_percent=100,
            max_healthy_percent=200,
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.ENABLED,
            assign_public_ip=False,
            security_groups=[group],
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            deployment_alarms=ecs.DeploymentAlarmConfig(
                alarm_names=[self._failure_alarm().alarm_name], behavior=ecs.AlarmBehavior.ROLLBACK_ON_ALARM
            ),
            health_check_grace_period=cdk.Duration.seconds(_START_S),
            enable_ecs_managed_tags=True,
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )

    def _failure_alarm(self) -> cloudwatch.Alarm:
        """Return the alarm that rolls a deployment back. Its metric counts unexpected failures only: no
        paused endpoints, unavailable dependencies or refused load."""
        return cloudwatch.Alarm(
            self,
            "DeploymentFailures",
            alarm_description=described(
                self, "unexpected-failures", log_group=self._log_group.log_group_name
            ),
            metric=published_by(self.tenant.full_name)(deployed_names.INTERNAL_ERRORS),
            threshold=_MAX_FAILURES_PER_MINUTE,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def _scale(self, service: ecs.FargateService) -> None:
        tasks = self.tenant.config.tasks
        scaling = service.auto_scale_task_count(min_capacity=tasks.min_tasks, max_capacity=tasks.max_tasks)
        scaling.scale_to_track_custom_metric(
            "ActiveStreams",
            metric=published_by(self.tenant.full_name)(deployed_names.ACTIVE_STREAMS, "Average"),
            target_value=streams_per_task(self.tenant),
            scale_out_cooldown=cdk.Duration.seconds(_SCALE_OUT_S),
            scale_in_cooldown=cdk.Duration.seconds(_SCALE_IN_S),
        )


def _settings(
    stack: cdk.Stack, foundation: Foundation, models: ModelsOutputs, ingestion: IngestionOutputs
) -> dict[str, Any]:
    """Return the fields of ServiceSettings that other stacks decide: names and addresses, nothing secret.

    ``reach_addresses`` is JSON where addresses are known at deploy time only (tokens of the CDK).
    """
    tenant, all_addresses = foundation.tenant, foundation.network.reach_addresses
    addresses = {entry.name: all_addresses[entry.name] for entry in tenant.callable_systems}
    known_at_deploy = cdk.Token.is_unresolved([*addresses.values()])
    return {
        "tenants_dir": "/tmp/tenants",  # noqa: S108 - the task's own volume; its root is read-only
        "stores": "aws",
        "inbox_bucket": foundation.data.inbox_bucket,
        **foundation.index(),
        "ingestion_queue_url": ingestion.ingestion_queue_url,
        "withdrawals_queue_url": ingestion.withdrawals_queue_url,
        "issuer": tenant.identity.issuer,
        "audience": tenant.identity.audience,
        "jwks_parameter": tenant.jwks_parameter,
        "power_parameter": models.power_parameter,
        "revocations_parameter": tenant.revocations_parameter,
        "console_client_id": tenant.identity.console_client_id,
        "console_name": tenant.config.display_name,
        "frame_ancestors": list(tenant.edge.frame_ancestors),
        "cors_origins": list(tenant.edge.cors_origins),
        "drain_timeout_s": ServiceSettings.model_fields["drain_timeout_s"].default,
        "metrics_service": tenant.full_name,
        "release": release(),
        "model_stamp": models.model_stamp,
        "schema_stamp": ingestion.schema_stamp,
        "receipt_key": foundation.keys.receipt_key_arn,
        "reach_addresses": stack.to_json_string(addresses) if known_at_deploy else addresses,
        "system_switches": tenant.system_switches,
    }


_TASK_POLICY = "Orchestrator/Task/Role/DefaultPolicy"
_DOMAIN = of_data_stack("PublishOutputFnGetAttSearchArn29A45148")
_EXECUTION_POLICY = "Orchestrator/Task/ExecutionRole/DefaultPolicy"

EXCEPTIONS = (
    *exceptions("Orchestrator", hipaa("IAMNoInlinePolicy"), OWN_INLINE_POLICY),
    *exceptions(
        "Orchestrator/Cluster",
        (nag("ECS4"), "checkov::CKV_AWS_65"),
        "With the profile dev alone: its 47 metrics cost as much as its tasks' memory, and the service "
        "publishes its own. Every other profile has Container Insights.",
    ),
    *exceptions(
        _TASK_POLICY,
        wildcard("*"),
        "xray:PutTraceSegments supports no resources: spans of ids, sizes and times, without text. With ECS "
        "Exec in the tenant file, the channels of ssmmessages too.",
    ),
    *exceptions(
        "Orchestrator",
        (
            *wildcard(f"arn:{{partition}}:s3:::{DOCUMENTS_BUCKET}/documents/*"),
            *wildcard(f"arn:{{partition}}:s3:::{INBOX_BUCKET}/{UPLOADS_PREFIX}*"),
        ),
        "The tenant's documents, whose names are hashes of ids: the service reads, adds and withdraws any "
        "of them, and nothing outside this prefix; so do runs of connectors. Uploads have random names.",
    ),
    *exceptions(
        _TASK_POLICY,
        wildcard(*(f"{_DOMAIN}/*-passages-v*/{path}" for path in ("_search", "_mapping"))),
        "Versions of the index of passages, whose names contain the model's hash, on a domain of this "
        "tenant only: to search, and to ask which model each was made with.",
    ),
    *exceptions(
        _EXECUTION_POLICY,
        wildcard("*"),
        "ecr:GetAuthorizationToken supports no resources: the token opens what the role's other statement "
        "names, two repositories.",
    ),
    *exceptions(
        "Orchestrator/Task/Definition",
        "cfn-lint::E1022",
        "The address of a live system: cfn-lint does not know that Fn::GetStackOutput gives text, here the "
        "endpoint's names joined to one.",
    ),
    *exceptions(
        "Orchestrator",
        nag("ECS2"),
        "Names, addresses and numbers, made by the settings class that reads them: visible in every review, "
        "and a change of one replaces the tasks. Secrets are not among them: a task has KMS decrypt that of "
        "document links when it starts, and reads those of systems from Secrets Manager.",
    ),
    *exceptions(
        "Orchestrator/DeploymentFailures",
        hipaa("CloudWatchAlarmAction"),
        "ECS itself acts on it: the deployment in progress reads this alarm and rolls back. The alarms of "
        "the observability stack notify people.",
        decision="0019-tasks-on-fargate",
    ),
)
