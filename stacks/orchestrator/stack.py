"""The orchestrator: tasks on Fargate in the tenant's zones, behind the load balancer of the edge."""

from __future__ import annotations

from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_kms as kms
from constructs import Construct

from assistant.settings import deployed_names
from assistant.settings.process import ServiceSettings
from stacks.ingestion.stack import grant_search_access
from stacks.network.security_groups import TASK_PORT
from stacks.observability.alarms import metric
from stacks.orchestrator.task import (
    CONTAINER,
    OrchestratorTask,
    session_statements,
    streams_per_task,
    task_statements,
)
from stacks.outputs import (
    IngestionOutputs,
    ModelsOutputs,
    NetworkOutputs,
    OrchestratorOutputs,
    Workload,
)
from stacks.policy import (
    DOCUMENTS_BUCKET,
    OWN_INLINE_POLICY,
    exceptions,
    hipaa,
    nag,
    of_data_stack,
    wildcard,
)
from stacks.tenant_stack import Foundation, TenantStack, described, tenant_log_group

_START_S = 60
"""A task pulls its image, starts in a few seconds, and fetches two tokenizers."""
_SCALE_IN_S = 300
_SCALE_OUT_S = 60
_MAX_FAILURES_PER_MINUTE = 5
"""Unexpected failures, of all tasks, at which a deployment is rolled back. A healthy service has none."""


class OrchestratorStack(TenantStack):
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
            settings=_settings(foundation, models, ingestion) | self._systems(network),
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
        # As a property: attached as a construct, another stack's target group would add rules to security
        # groups, and those belong to the network stack.
        resource.load_balancers = [
            ecs.CfnService.LoadBalancerProperty(
                container_name=CONTAINER,
                container_port=TASK_PORT,
                target_group_arn=target_group_arn,
            )
        ]
        if tenant.config.tasks.exec_enabled:
            # As a property: CDK's own grant is wider than the log that records sessions.
            resource.enable_execute_command = True
            group = self._log_group.log_group_arn
            task.role.may(*session_statements(log_group_arn=group, logs_key_arn=keys.logs_key_arn))
        self._scale(service)
        self.outputs = OrchestratorOutputs(
            cluster_name=cluster.cluster_name,
            service_name=service.service_name,
            log_group_name=self._log_group.log_group_name,
        )

    def _systems(self, network: NetworkOutputs) -> dict[str, Any]:
        """Return the fields of ServiceSettings on live systems."""
        tenant = self.tenant
        addresses = {entry.name: network.reach_addresses[entry.name] for entry in tenant.callable_systems}
        text = self.to_json_string(addresses) if cdk.Token.is_unresolved([*addresses.values()]) else addresses
        return {"reach_addresses": text, "system_switches": tenant.system_switches}

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
            container_insights_v2=ecs.ContainerInsights.ENABLED,
            execute_command_configuration=sessions,
        )
        # Without it ECS creates the group of Container Insights itself, without key or retention.
        cluster.node.add_dependency(
            tenant_log_group(
                self,
                "Insights",
                logs_key_arn=self._keys.logs_key_arn,
                name=self.tenant.insights_log_group,
            )
        )
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
        """Return the alarm that rolls a deployment back. Paused endpoints, an unavailable dependency and
        refused load are no failures of the new version, and do not count."""
        return cloudwatch.Alarm(
            self,
            "DeploymentFailures",
            alarm_description=described("unexpected-failures"),
            metric=self._metric(deployed_names.INTERNAL_ERRORS, statistic="Sum"),
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
            metric=self._metric(deployed_names.ACTIVE_STREAMS, statistic="Average"),
            target_value=streams_per_task(self.tenant),
            scale_out_cooldown=cdk.Duration.seconds(_SCALE_OUT_S),
            scale_in_cooldown=cdk.Duration.seconds(_SCALE_IN_S),
        )

    def _metric(self, name: str, *, statistic: str) -> cloudwatch.IMetric:
        dimensions = {deployed_names.DIMENSION: self.tenant.full_name}
        return metric(deployed_names.NAMESPACE, name, statistic, dimensions)


def _settings(foundation: Foundation, models: ModelsOutputs, ingestion: IngestionOutputs) -> dict[str, Any]:
    """Return the fields of ServiceSettings. Names and addresses: nothing here is secret."""
    tenant = foundation.tenant
    return {
        "tenants_dir": "/tmp/tenants",  # noqa: S108 - the task's own volume; its root is read-only
        "stores": "aws",
        **foundation.index(),
        "ingestion_queue_url": ingestion.ingestion_queue_url,
        "withdrawals_queue_url": ingestion.withdrawals_queue_url,
        "issuer": tenant.identity.issuer,
        "audience": tenant.identity.audience,
        "jwks_parameter": tenant.jwks_parameter,
        "power_parameter": models.power_parameter,
        "console_client_id": tenant.identity.console_client_id,
        "console_name": tenant.config.display_name,
        "frame_ancestors": list(tenant.edge.frame_ancestors),
        "cors_origins": list(tenant.edge.cors_origins),
        "drain_timeout_s": ServiceSettings.model_fields["drain_timeout_s"].default,
        "metrics_service": tenant.full_name,
        "release": tenant.place.release,
        "model_stamp": models.model_stamp,
        "schema_stamp": ingestion.schema_stamp,
    }


_TASK_POLICY = "Orchestrator/Task/Role/DefaultPolicy"
_DOMAIN = of_data_stack("PublishOutputFnGetAttSearchArn29A45148")
_EXECUTION_POLICY = "Orchestrator/Task/ExecutionRole/DefaultPolicy"

EXCEPTIONS = (
    *exceptions((_TASK_POLICY, _EXECUTION_POLICY), hipaa("IAMNoInlinePolicy"), OWN_INLINE_POLICY),
    *exceptions(
        _TASK_POLICY,
        wildcard("*"),
        "xray:PutTraceSegments supports no resources: spans of ids, sizes and times, without text. With ECS "
        "Exec in the tenant file, the channels of ssmmessages too.",
    ),
    *exceptions(
        _TASK_POLICY,
        wildcard(f"arn:aws:s3:::{DOCUMENTS_BUCKET}/documents/*"),
        "The tenant's documents, whose names are hashes of ids: the service reads, adds and withdraws any "
        "of them, and nothing outside this prefix.",
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
        "Orchestrator/Task/Definition",
        nag("ECS2"),
        "Names, addresses and numbers, made by the settings class that reads them: visible in every review, "
        "and a change of one replaces the tasks. The only secret, of document links, is not among them: "
        "the task has KMS decrypt it when it starts.",
    ),
    *exceptions(
        "Orchestrator/DeploymentFailures",
        hipaa("CloudWatchAlarmAction"),
        "ECS itself acts on it: the deployment in progress reads this alarm and rolls back. The alarms of "
        "the observability stack notify people.",
        decision="0019-tasks-on-fargate",
    ),
)
