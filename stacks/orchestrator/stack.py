"""The orchestrator: tasks on Fargate over the tenant's zones, behind the load balancer of the edge."""

from __future__ import annotations

from typing import Any, cast

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from assistant.settings import deployed_names
from assistant.settings.model_artifacts import CALLERS_PREFIX
from assistant.settings.process import ServiceSettings
from stacks.ingestion.search_schema import SearchAccess
from stacks.network.security_groups import TASK_PORT
from stacks.orchestrator.permissions import TaskRights, search_alias, session_statements
from stacks.orchestrator.task import CONTAINER, OrchestratorTask, TaskPlan, streams_per_task
from stacks.outputs import (
    DataOutputs,
    EdgeOutputs,
    IngestionOutputs,
    KeysOutputs,
    ModelsOutputs,
    NetworkOutputs,
    OrchestratorOutputs,
    Workload,
)
from stacks.policy import Acknowledgement
from stacks.runbook import described
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack, tenant_log_group

_START_S = 60
"""A task pulls its image, starts in a few seconds, and fetches two tokenizers."""
_SCALE_IN_S = 300
_SCALE_OUT_S = 60
_FAILURES_IN_A_MINUTE = 5
"""Unexpected ones, of all tasks, at which a deployment is rolled back. A healthy service has none."""


class OrchestratorStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        network: NetworkOutputs,
        data: DataOutputs,
        edge: EdgeOutputs,
        models: ModelsOutputs,
        ingestion: IngestionOutputs,
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="phi", description="orchestrator")
        log_group = tenant_log_group(self, "Logs", tenant=tenant, logs_key_arn=keys.logs_key_arn)
        rights = TaskRights(
            scope=self, tenant=tenant, keys=keys, data=data, models=models, ingestion=ingestion
        )
        task = OrchestratorTask(
            self,
            "Task",
            tenant=tenant,
            plan=TaskPlan(
                environment=_environment(tenant, data=data, models=models, ingestion=ingestion),
                rights=rights,
                log_group=log_group,
            ),
        )
        cluster = self._cluster(network, keys, log_group)
        service = self._service(cluster, task, network)
        reader = SearchAccess(
            self,
            "IndexReader",
            function_arn=ingestion.schema_function_arn,
            role_arns=[task.role.role_arn],
            access="read",
        )
        service.node.add_dependency(reader)
        # The definition names the roles and waits for them, not for their policies: a task that starts before
        # its role may pull the image fails, and three such tell ECS to roll the deployment back.
        service.node.add_dependency(task.role, task.execution_role)
        _register(service, target_group_arn=edge.target_group_arn)
        if tenant.config.tasks.exec_enabled:
            _let_in(service, task, log_group=log_group, keys=keys)
        self._scale(service)
        self.outputs = OrchestratorOutputs(
            cluster_name=cluster.cluster_name,
            service_name=service.service_name,
            log_group_name=log_group.log_group_name,
        )

    def _cluster(self, network: NetworkOutputs, keys: KeysOutputs, log_group: logs.LogGroup) -> ecs.Cluster:
        place = self.tenant.place
        vpc = ec2.Vpc.from_vpc_attributes(
            self,
            "Vpc",
            vpc_id=network.vpc_id,
            availability_zones=list(place.zones),
            isolated_subnet_ids=list(network.subnet_ids),
            isolated_subnet_route_table_ids=[
                network.route_table_ids[number % len(network.route_table_ids)]
                for number, _ in enumerate(network.subnet_ids)
            ],
        )
        sessions = None
        if self.tenant.config.tasks.exec_enabled:
            sessions = ecs.ExecuteCommandConfiguration(
                kms_key=kms.Key.from_key_arn(self, "SessionsKey", keys.logs_key_arn),
                logging=ecs.ExecuteCommandLogging.OVERRIDE,
                log_configuration=ecs.ExecuteCommandLogConfiguration(
                    cloud_watch_log_group=log_group, cloud_watch_encryption_enabled=True
                ),
            )
        cluster = ecs.Cluster(
            self,
            "Cluster",
            cluster_name=self.tenant.cluster_name,
            vpc=vpc,
            container_insights_v2=ecs.ContainerInsights.ENABLED,
            execute_command_configuration=sessions,
        )
        cluster.node.add_dependency(self._insights(keys))
        return cluster

    def _insights(self, keys: KeysOutputs) -> logs.LogGroup:
        """Return where Container Insights writes, made before the cluster: else ECS makes the group, without
        key and for ever."""
        return tenant_log_group(
            self,
            "Insights",
            tenant=self.tenant,
            logs_key_arn=keys.logs_key_arn,
            name=self.tenant.insights_log_group,
        )

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
            # No count: each update would reset what autoscaling has reached. Its least is `min_tasks`.
            min_healthy_percent=100,
            max_healthy_percent=200,
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.ENABLED,
            assign_public_ip=False,
            security_groups=[group],
            vpc_subnets=ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED),
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            deployment_alarms=ecs.DeploymentAlarmConfig(
                alarm_names=[self._failures().alarm_name], behavior=ecs.AlarmBehavior.ROLLBACK_ON_ALARM
            ),
            health_check_grace_period=cdk.Duration.seconds(_START_S),
            enable_ecs_managed_tags=True,
            propagate_tags=ecs.PropagatedTagSource.SERVICE,
        )

    def _failures(self) -> cloudwatch.Alarm:
        """Return what rolls a deployment back. Paused endpoints, a dependency that is down and a load that is
        refused are no failures of the new version, and do not count."""
        return cloudwatch.Alarm(
            self,
            "DeploymentFailures",
            alarm_description=described("unexpected-failures"),
            metric=_metric(self.tenant, deployed_names.INTERNAL_ERRORS, statistic="Sum"),
            threshold=_FAILURES_IN_A_MINUTE,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def _scale(self, service: ecs.FargateService) -> None:
        tasks = self.tenant.config.tasks
        scaling = service.auto_scale_task_count(min_capacity=tasks.min_tasks, max_capacity=tasks.max_tasks)
        scaling.scale_to_track_custom_metric(
            "ActiveStreams",
            metric=_metric(self.tenant, deployed_names.ACTIVE_STREAMS, statistic="Average"),
            target_value=streams_per_task(self.tenant),
            scale_out_cooldown=cdk.Duration.seconds(_SCALE_OUT_S),
            scale_in_cooldown=cdk.Duration.seconds(_SCALE_IN_S),
        )


def _register(service: ecs.FargateService, *, target_group_arn: str) -> None:
    """Have ECS register each task with the edge's target group. By property: attached as a construct, the
    group of another stack would ask for rules in security groups, and those are the network's."""
    resource = cast("ecs.CfnService", service.node.default_child)
    resource.load_balancers = [
        ecs.CfnService.LoadBalancerProperty(
            container_name=CONTAINER, container_port=TASK_PORT, target_group_arn=target_group_arn
        )
    ]


def _let_in(
    service: ecs.FargateService, task: OrchestratorTask, *, log_group: logs.LogGroup, keys: KeysOutputs
) -> None:
    """Allow sessions in tasks. By property: CDK's own grant is wider than the log that records them."""
    resource = cast("ecs.CfnService", service.node.default_child)
    resource.enable_execute_command = True
    for statement in session_statements(
        log_group_arn=log_group.log_group_arn, logs_key_arn=keys.logs_key_arn
    ):
        task.role.add_to_policy(statement)


def _metric(tenant: DeployedTenant, name: str, *, statistic: str) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=deployed_names.NAMESPACE,
        metric_name=name,
        dimensions_map={deployed_names.DIMENSION: tenant.metrics_service},
        statistic=statistic,
        period=cdk.Duration.minutes(1),
    )


def _environment(
    tenant: DeployedTenant, *, data: DataOutputs, models: ModelsOutputs, ingestion: IngestionOutputs
) -> dict[str, Any]:
    """Return what the service reads, by field. Names and addresses: nothing here is secret."""
    return {
        "tenants_dir": "/tmp/tenants",  # noqa: S108 - the task's own volume; its root is read-only
        "region": tenant.place.region,
        "stores": "aws",
        "search": "opensearch",
        "opensearch_url": f"https://{data.domain_endpoint}",
        "opensearch_index": search_alias(tenant),
        "documents_bucket": data.documents_bucket,
        "records_table": data.records_table,
        "events_table": data.events_table,
        "states_table": data.states_table,
        "ingestion_queue_url": ingestion.ingestion_queue_url,
        "withdrawals_queue_url": ingestion.withdrawals_queue_url,
        "model_artifacts_s3": f"s3://{data.models_bucket}/{CALLERS_PREFIX}",
        "issuer": tenant.identity.issuer,
        "audience": tenant.identity.audience,
        "jwks_parameter": tenant.jwks_parameter,
        "power_parameter": models.power_parameter,
        "console_client_id": tenant.identity.console_client_id,
        "console_name": tenant.config.display_name,
        "drain_timeout_s": ServiceSettings.model_fields["drain_timeout_s"].default,
        "metrics_service": tenant.metrics_service,
        "release": tenant.place.release,
        "model_stamp": models.model_stamp,
        "schema_stamp": ingestion.schema_stamp,
    }


# Findings that stay in the orchestrator stack, each with its reason.


_ANY = "AwsSolutions::AwsSolutions-IAM5[Resource::*]"
_DOCUMENTS_BUCKET = (
    '{"Fn::GetStackOutput":{"StackName":"{stage}-Data","Region":"{region}",'
    '"OutputName":"PublishOutputRefDocumentsBucketC67A8896"}}'
)

EXCEPTIONS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Orchestrator/Task/Role/DefaultPolicy",
        findings=("HIPAA.Security::HIPAA.Security-IAMNoInlinePolicy",),
        reason=(
            "The rights of exactly this role, made and deleted with it. A managed policy could be attached "
            "to another role by whoever may attach policies."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/Task/ExecutionRole/DefaultPolicy",
        findings=("HIPAA.Security::HIPAA.Security-IAMNoInlinePolicy",),
        reason="As for the task's role: the rights of exactly one role, made and deleted with it.",
    ),
    Acknowledgement(
        construct="Orchestrator/Task/Role/DefaultPolicy",
        findings=(_ANY,),
        reason=(
            "xray:PutTraceSegments, which knows no resources: spans of ids, sizes and times, without text. "
            "With ECS Exec asked for in the tenant file, the channels of ssmmessages too, which know none."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/Task/Role/DefaultPolicy",
        findings=(
            f"AwsSolutions::AwsSolutions-IAM5[Resource::arn:aws:s3:::{_DOCUMENTS_BUCKET}/documents/*]",
        ),
        reason=(
            "The tenant's documents, whose names are hashes of ids: the service reads, adds and withdraws "
            "any of them, and nothing outside this prefix."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/Task/ExecutionRole/DefaultPolicy",
        findings=(_ANY,),
        reason=(
            "ecr:GetAuthorizationToken, which knows no resources: the token opens what the role's other "
            "statement names, two repositories."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/Task/Definition",
        findings=("AwsSolutions::AwsSolutions-ECS2",),
        reason=(
            "Names, addresses and numbers, made by the settings class that reads them: seen in every review, "
            "and a change of one rolls the tasks. The only secret, of document links, is none of them: the "
            "task has KMS decrypt it at its start."
        ),
    ),
    Acknowledgement(
        construct="Orchestrator/DeploymentFailures",
        findings=("HIPAA.Security::HIPAA.Security-CloudWatchAlarmAction",),
        reason=(
            "Its action is ECS's own: the deployment in progress reads this alarm and rolls back. People are "
            "told by the alarms of the observability stack."
        ),
        decision="0019-tasks-on-fargate",
    ),
)
