"""Runs of sources' connectors: a schedule for each source starts a task on Fargate, which ends with its run.

The lock of a source refuses a second run beside the first. The alarm *A source is not read* watches the runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.options.sources.section import AnyConnector, connector_of
from assistant.options.sources.settings import SOURCE_DIMENSION, SOURCE_READ, SyncingSettings
from assistant.tenant.deployed_names import STATES
from stacks.buckets import document_statements
from stacks.observability.alarms import MOST_HOURS, TenantAlarms, published_by
from stacks.options import OptionStacks
from stacks.orchestrator import BesideTheService
from stacks.outputs import IngestionOutputs, Workload
from stacks.processes import TenantFileAsset, image_uri
from stacks.roles import USE_KEY, WorkloadRole, allow, secret_arns, table_statements, via
from stacks.schedules import ScheduledTask, starting_exceptions
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Foundation, TenantStack, pascal_case


class ConnectorRuns(Construct):
    """A task definition for all sources with a connector, and a schedule for each."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        beside: BesideTheService,
        connectors: Mapping[str, AnyConnector],
    ) -> None:
        """``beside``: what the tenant's orchestrator stack shares. ``connectors``: by their sources'
        names."""
        super().__init__(scope, construct_id)
        foundation, ingestion = beside.foundation, beside.ingestion
        tenant = foundation.tenant
        role = WorkloadRole(
            self,
            "Role",
            assumed_by="ecs-tasks.amazonaws.com",
            description=f"What connectors of {tenant.name} may call",
        )
        role.may(*_statements(self, foundation, ingestion))
        tenant_file = TenantFileAsset(self, "TenantFile", tenant=tenant)
        tenant_file.grant_read(role)
        definition = ecs.FargateTaskDefinition(
            self,
            "Definition",
            cpu=512,
            memory_limit_mib=2048,  # four bodies of a wiki at once, 20 MiB each
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.of(tenant.config.task_architecture),
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            task_role=cast("iam.IRole", role),
            execution_role=cast("iam.IRole", beside.execution_role),
            volumes=[ecs.Volume(name="Tmp")],
        )
        linux = ecs.LinuxParameters(self, "Linux")
        linux.drop_capabilities(ecs.Capability.ALL)
        container = definition.add_container(
            "Connector",
            image=ecs.ContainerImage.from_registry(image_uri(self, tenant, "orchestrator")),
            entry_point=["python", "-P", "-m", "assistant.options.sources.task"],
            readonly_root_filesystem=True,
            environment=foundation.environment(
                SyncingSettings,
                tenant_file_s3=tenant_file.uri,
                ingestion_queue_url=ingestion.ingestion_queue_url,
                withdrawals_queue_url=ingestion.withdrawals_queue_url,
            ),
            linux_parameters=linux,
            logging=ecs.LogDrivers.aws_logs(log_group=beside.log_group, stream_prefix="connectors"),
        )
        tmp = ecs.MountPoint(source_volume="Tmp", container_path="/tmp", read_only=False)  # noqa: S108
        container.add_mount_points(tmp)
        task = ScheduledTask(
            self, "Task", foundation=foundation, definition=definition, workload=Workload.CONNECTORS
        )
        for source, connector in connectors.items():
            every = cdk.Duration.minutes(connector.every_minutes)
            task.every(every, pascal_case(source), command=[source], after=[beside.service])


def connectors_of(tenant: DeployedTenant) -> Mapping[str, AnyConnector]:
    """Return the connector of each source that has one."""
    sources = tenant.config.sources
    return {source.name: connector for source in sources if (connector := connector_of(source)) is not None}


def _statements(
    scope: Construct, foundation: Foundation, ingestion: IngestionOutputs
) -> list[iam.PolicyStatement]:
    """Let runs store, withhold and withdraw documents, keep their record and lock among the states, and read
    the secrets of their systems."""
    tenant, data = foundation.tenant, foundation.data
    services = via(tenant, "s3", "dynamodb", "sqs", "secretsmanager")
    secrets = secret_arns(scope, tenant, tenant.connected_systems, data.system_secrets)
    return [
        *document_statements(scope, data.documents_bucket),
        *table_statements(scope, STATES, data.states_table, actions=STATES.worker_actions),
        allow("sqs:SendMessage", ingestion.ingestion_queue_arn, ingestion.withdrawals_queue_arn),
        allow("secretsmanager:GetSecretValue", *secrets),
        allow(USE_KEY, foundation.keys.data_key_arn, conditions=services),
    ]


EXCEPTIONS = starting_exceptions("Orchestrator/Connectors/Task")
"""Validators' findings that stay in runs of connectors."""


class SourceStacks(OptionStacks):
    """Runs of connectors, their alarms, and a container's entries."""

    exceptions = EXCEPTIONS

    def add_to_orchestrator(self, stack: TenantStack, beside: BesideTheService) -> None:
        """Add the scheduled runs to a stack, if its tenant has connectors."""
        if connectors := connectors_of(stack.tenant):
            ConnectorRuns(stack, "Connectors", beside=beside, connectors=connectors)

    def alarms(self, tenant_alarms: TenantAlarms) -> Iterator[cloudwatch.Alarm]:
        """Yield an alarm for each connector, which fires after three missed runs.

        A task that did not start, or was killed, publishes nothing, which counts as a missed run.
        """
        tenant = tenant_alarms.metrics.tenant
        for source, connector in connectors_of(tenant).items():
            runs = published_by(tenant.full_name, **{SOURCE_DIMENSION: source})
            read = tenant_alarms.metrics.or_zero(
                runs(SOURCE_READ, "Maximum", minutes=60), label=f"{source} read"
            )
            hours, part = min(3 * connector.every_minutes // 60 + 2, MOST_HOURS), pascal_case(source)
            yield tenant_alarms.add("a-source-is-not-read", read, 1, periods=hours, below=True, part=part)

    def fill_in(self, tenant: DeployedTenant, data: dict[str, Any]) -> None:
        """Write the names of secrets and the authorities of connectors into a container's tenant file.

        ``data``: the file's tables, changed in place.
        """
        systems = {entry.name: entry for entry in tenant.connected_systems}
        for connector in filter(None, (source.get("connector") for source in data["sources"])):
            system = systems[connector["reach"]]
            if system.ca_pem is not None:
                connector["ca_pem"] = system.ca_pem
            if "secret" in connector:
                connector["secret"] = f"secretsmanager:{tenant.secret_of(system)}"
