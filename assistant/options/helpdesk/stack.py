"""The reference desk on the care side: a task on Fargate that serves TLS itself, and an NLB in front of it.

Agents reach the NLB in the care side's VPC; the assistant reaches it for orders and replies by an endpoint
service, which a ``[[reach]]`` entry of the tenant names.

    agents (link.client_cidrs) ─┐
                                NLB :443 TCP ─→ task :8443 TLS ─→ link, to the assistant
    assistant, by PrivateLink ──┘                              └→ DynamoDB, KMS, SSM
"""

from __future__ import annotations

from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.options.helpdesk.care import HelpdeskCareApp, HelpdeskSection
from assistant.options.helpdesk.settings import HelpdeskSettings
from assistant.stores.table import EXPIRES_AT
from assistant.tenant.deployed_names import PARTITION, SORT
from assistant.tenant.toml_file import keys_of
from stacks.care_app import CareAppStack, CareSide, signing_key
from stacks.keys import administration, grants_for_services, use_by_deployment, use_by_tenant
from stacks.network import (
    HTTPS_PORT,
    Rule,
    allow_between,
    allow_in,
    allow_out,
    cidr_id,
    create_group,
)
from stacks.policy import exceptions, hipaa, nag, wildcard
from stacks.processes import PULL_IMAGE, image_repository_arn, image_uri
from stacks.roles import ONLY_ES256, USE_KEY, WorkloadRole, allow, attach, parameter_arn, via
from stacks.tenant_stack import tenant_log_group, tenant_of
from stacks.vpc import EndpointName, name_in_vpc

_IMAGE = "helpdesk"
_PORT: int = HelpdeskSettings.model_fields["port"].default
"""Port of the task."""
_TABLE_ACTIONS = ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query")
_SECRETS = ("tls_certificate", "tls_key", "system_token")
"""Keys of the secret, each a field of HelpdeskSettings."""


def add_helpdesk(stack: CareAppStack, side: CareSide) -> None:
    """Add the desk where the care side's file has ``[helpdesk]``. ``option.py`` joins it to the constructs of
    the care side's stack, which calls it after its own constructs."""
    if section := keys_of(side.care.config, HelpdeskCareApp).helpdesk:
        Helpdesk(stack, "Helpdesk", side=side, section=section)


class Helpdesk(Construct):
    """The desk's task, balancer, table, keys and roles. Its outputs (``HelpdeskServiceName``,
    ``HelpdeskContextsKeyId``) are copied by hand, as ``deployed.md`` says."""

    def __init__(
        self, scope: Construct, construct_id: str, *, side: CareSide, section: HelpdeskSection
    ) -> None:
        super().__init__(scope, construct_id)
        self._tenant, self._side, self._section = tenant_of(self), side, section
        self._check()
        self._balancer_group, self._task_group = self._groups()
        table_key, table = self._table()
        role = WorkloadRole(
            self,
            "Role",
            assumed_by="ecs-tasks.amazonaws.com",
            description="What the reference desk may call",
        )
        contexts_key = signing_key(
            self,
            "ContextsKey",
            signer="Helpdesk",
            role_arn=role.role_arn,
            description="Signs care contexts; its public half is in the parameter of the care keys",
        )
        calls = attach(
            self,
            "Calls",
            role,
            [
                allow(_TABLE_ACTIONS, table.table_arn),
                allow(USE_KEY, table_key.key_arn, conditions=via(self._tenant, "dynamodb")),
                allow("kms:Sign", contexts_key.key_arn, conditions=ONLY_ES256),
                allow("ssm:GetParameter", parameter_arn(self, self._jwks_parameter)),
                allow("ssm:GetParameter", parameter_arn(self, self._care_jwks_parameter)),
            ],
        )
        definition, starts = self._definition(role, self._environment(table, contexts_key))
        balancer, targets = self._balancer()
        self._service(definition, targets).node.add_dependency(calls, starts, balancer)
        self._output("ContextsKeyId", contexts_key.key_id)

    def _check(self) -> None:
        """Raise ConfigurationError where the other side's file does not fit."""
        assistant = self._side.care.assistant
        if assistant.care_context is None or assistant.deployment is None:
            wrong = "the tenant file needs [care_context]: the desk signs whose conversation it is"
        elif assistant.deployment.account != self._tenant.place.account:
            wrong = "deployment.account must be the tenant's: its registry and its issuer's keys are there"
        else:
            return
        raise ConfigurationError(f"care_app/{self._tenant.name}.toml: [helpdesk]: {wrong}.")

    @property
    def _jwks_parameter(self) -> str:
        """Name of the SSM parameter with the issuer's keys. The assistant's tasks read it too: no issuer is
        reached from the VPC."""
        place = self._side.care.assistant.deployment or self._tenant.place
        return self._tenant.identity.jwks_parameter or place.parameter(self._tenant.name, "jwks")

    @property
    def _care_jwks_parameter(self) -> str:
        """Name of the SSM parameter with the keys of contexts, which the assistant's tasks read too."""
        assistant = self._side.care.assistant
        declared = assistant.care_context and assistant.care_context.jwks_parameter
        place = assistant.deployment or self._tenant.place
        return declared or place.parameter(self._tenant.name, "care-jwks")

    def _groups(self) -> tuple[str, str]:
        """Create the security groups of the balancer and of the task, and return their ids in this order.

        Agents and the assistant connect to the balancer, the balancer to the task, and the task to the link
        and to AWS. An own VPC's network ACL is opened for the assistant too.
        """
        vpc, groups = self._side.vpc, self._side.groups
        scope = Construct(self, "Groups")
        balancer = create_group(scope, "Balancer", "Reference desk", vpc_id=vpc.id).attr_group_id
        task = create_group(scope, "Task", "Task of the reference desk", vpc_id=vpc.id).attr_group_id
        for cidr in self._side.care.config.link.client_cidrs:
            rule = Rule(cidr=cidr, description="Agents to the reference desk")
            allow_in(scope, f"{cidr_id(cidr)}In", balancer, rule)
        # Through an endpoint service the balancer judges the client's own address.
        network = self._side.care.assistant.network
        assistant = network.vpc.cidr if network.vpc else network.cidr
        allow_in(scope, "AssistantIn", balancer, Rule(cidr=assistant, description="The assistant's calls"))
        if vpc.network_acl is not None:
            block, ports = ec2.AclCidr.ipv4(assistant), ec2.AclTraffic.tcp_port_range(1024, 65535)
            for direction, traffic in (("INGRESS", ec2.AclTraffic.tcp_port(HTTPS_PORT)), ("EGRESS", ports)):
                vpc.network_acl.add_entry(
                    f"Assistant{direction.capitalize()}",
                    rule_number=400,  # above all numbers of ``stacks.vpc``
                    direction=ec2.TrafficDirection[direction],
                    cidr=block,
                    traffic=traffic,
                )
        allow_between(scope, "BalancerToTask", balancer, task, port=_PORT, description="Desk")
        allow_between(scope, "TaskToLink", task, groups.link, description="Desk to the assistant")
        if groups.endpoints is not None:
            allow_between(scope, "TaskToEndpoints", task, groups.endpoints, description="Desk to AWS")
        # The VPC's route tables lead to gateway endpoints only.
        gateways = Rule(cidr="0.0.0.0/0", description="Desk to gateway endpoints")
        allow_out(scope, "TaskToGatewaysOut", task, gateways)
        return balancer, task

    def _table(self) -> tuple[kms.Key, dynamodb.Table]:
        """Create the table of chats and its key. Both go with the stack: chats expire after hours."""
        tenant = self._tenant
        statements = [
            *administration(self, tenant),
            *grants_for_services(self, tenant),
            use_by_tenant(tenant, through=["dynamodb"]),
            use_by_deployment(self, tenant, through=["dynamodb"]),
        ]
        key = kms.Key(
            self,
            "TableKey",
            description=f"{tenant.config.display_name}, care side: chats of the reference desk",
            enable_key_rotation=True,
            removal_policy=cdk.RemovalPolicy.DESTROY,
            pending_window=cdk.Duration.days(7),
            policy=iam.PolicyDocument(statements=statements),
        )
        text = dynamodb.AttributeType.STRING
        table = dynamodb.Table(
            self,
            "Chats",
            partition_key=dynamodb.Attribute(name=PARTITION, type=text),
            sort_key=dynamodb.Attribute(name=SORT, type=text),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute=EXPIRES_AT,
            encryption=dynamodb.TableEncryption.CUSTOMER_MANAGED,
            encryption_key=cast("kms.IKey", key),
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        return key, table

    def _environment(self, table: dynamodb.Table, contexts_key: kms.Key) -> dict[str, str]:
        """Return the task's environment variables; the fields of ``_SECRETS`` come from Secrets Manager."""
        tenant, care = self._tenant, self._side.care.assistant.care_context
        values = {
            "tenant": tenant.name,
            "service_url": f"https://{tenant.edge.host_name}",
            "page_url": f"https://{self._section.host_name}",
            "issuer": tenant.identity.issuer,
            "audience": tenant.identity.audience,
            "jwks_parameter": self._jwks_parameter,
            "care_jwks_parameter": self._care_jwks_parameter,
            "care_issuer": care and care.issuer,
            "care_audience": care and care.audience,
            "signing_key_id": contexts_key.key_arn,
            "table": table.table_name,
            "region": tenant.place.region,
            "port": _PORT,
            "certificate_authority": self._side.care.certificate_authority,
        }
        return HelpdeskSettings.variables(values, known_later=cdk.Token.is_unresolved)

    def _definition(
        self, role: WorkloadRole, environment: dict[str, str]
    ) -> tuple[ecs.FargateTaskDefinition, iam.CfnManagedPolicy]:
        """Return the task's definition, and the policy that must be attached before the task starts."""
        group = tenant_log_group(self, "Logs", logs_key_arn=self._side.key_arn)
        execution = WorkloadRole(
            self,
            "ExecutionRole",
            assumed_by="ecs-tasks.amazonaws.com",
            description="How Fargate starts the reference desk",
            through=("ecr.dkr", "s3"),
        )
        starts = attach(
            self,
            "Starts",
            execution,
            [
                allow("ecr:GetAuthorizationToken", "*"),
                allow(PULL_IMAGE, image_repository_arn(self, self._tenant, _IMAGE)),
                allow(("logs:CreateLogStream", "logs:PutLogEvents"), group.log_group_arn),
                allow("secretsmanager:GetSecretValue", self._section.secret_arn),
            ],
        )
        secret = secretsmanager.Secret.from_secret_complete_arn(self, "Secret", self._section.secret_arn)
        definition = ecs.FargateTaskDefinition(
            self,
            "Definition",
            cpu=512,
            memory_limit_mib=1024,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.of(self._tenant.config.tasks.architecture),
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            task_role=cast("iam.IRole", role),
            # Without CDK's own grants: they are wider, and `Starts` has all that is needed.
            execution_role=execution.without_policy_updates(),
            volumes=[ecs.Volume(name="Tmp")],
        )
        linux = ecs.LinuxParameters(self, "Linux")
        linux.drop_capabilities(ecs.Capability.ALL)
        container = definition.add_container(
            "Desk",
            image=ecs.ContainerImage.from_registry(image_uri(self, self._tenant, _IMAGE)),
            user="10001:10001",
            readonly_root_filesystem=True,
            environment=environment,
            secrets={
                HelpdeskSettings.variable(name): ecs.Secret.from_secrets_manager(secret, name)
                for name in _SECRETS
            },
            port_mappings=[ecs.PortMapping(container_port=_PORT)],
            linux_parameters=linux,
            logging=ecs.LogDrivers.aws_logs(log_group=group, stream_prefix="desk"),
        )
        tmp = ecs.MountPoint(source_volume="Tmp", container_path="/tmp", read_only=False)  # noqa: S108
        container.add_mount_points(tmp)
        return definition, starts

    def _balancer(self) -> tuple[elbv2.CfnListener, str]:
        """Create the NLB, and the endpoint service by which the assistant reaches it; return the listener and
        the ARN of the target group. An operator accepts the assistant's connection (``deployed.md``)."""
        vpc = self._side.vpc
        balancer = elbv2.CfnLoadBalancer(
            self,
            "Balancer",
            type="network",
            scheme="internal",
            subnets=list(vpc.subnet_ids),
            security_groups=[self._balancer_group],
            enforce_security_group_inbound_rules_on_private_link_traffic="on",
            load_balancer_attributes=[_attribute("load_balancing.cross_zone.enabled", "true")],
        )
        targets = elbv2.CfnTargetGroup(
            self,
            "Tasks",
            target_type="ip",
            protocol="TCP",
            port=_PORT,
            vpc_id=vpc.id,
            health_check_protocol="HTTPS",
            health_check_path="/healthz",
            matcher=elbv2.CfnTargetGroup.MatcherProperty(http_code="204"),
            target_group_attributes=[_target_attribute("deregistration_delay.timeout_seconds", "30")],
        )
        listener = elbv2.CfnListener(
            self,
            "Listener",
            load_balancer_arn=balancer.ref,
            port=HTTPS_PORT,
            protocol="TCP",
            default_actions=[elbv2.CfnListener.ActionProperty(type="forward", target_group_arn=targets.ref)],
        )
        leads_to = EndpointName(balancer.attr_canonical_hosted_zone_id, balancer.attr_dns_name)
        name_in_vpc(Construct(self, "Name"), self._section.host_name, leads_to, vpc_id=vpc.id)
        service = ec2.CfnVPCEndpointService(
            self, "EndpointService", network_load_balancer_arns=[balancer.ref], acceptance_required=True
        )
        account = f"arn:{cdk.Aws.PARTITION}:iam::{self._tenant.place.account}:root"
        ec2.CfnVPCEndpointServicePermissions(
            self, "Permissions", service_id=service.ref, allowed_principals=[account]
        )
        name = f"com.amazonaws.vpce.{self._tenant.place.region}.{service.ref}"
        self._output("ServiceName", name)
        return listener, targets.ref

    def _service(self, definition: ecs.FargateTaskDefinition, targets: str) -> ecs.CfnService:
        """Create the service of one task. A deployment stops the old one first: changes of chats are numbered
        in a process, so two would each miss the other's."""
        service = ecs.CfnService
        cluster = ecs.CfnCluster(self, "Cluster")
        network = service.AwsVpcConfigurationProperty(
            subnets=list(self._side.vpc.subnet_ids),
            security_groups=[self._task_group],
            assign_public_ip="DISABLED",
        )
        return service(
            self,
            "Service",
            cluster=cluster.ref,
            task_definition=definition.task_definition_arn,
            desired_count=1,
            launch_type="FARGATE",
            network_configuration=service.NetworkConfigurationProperty(awsvpc_configuration=network),
            load_balancers=[
                service.LoadBalancerProperty(
                    container_name="Desk", container_port=_PORT, target_group_arn=targets
                )
            ],
            health_check_grace_period_seconds=60,
            deployment_configuration=service.DeploymentConfigurationProperty(
                minimum_healthy_percent=0,
                maximum_percent=100,
                deployment_circuit_breaker=service.DeploymentCircuitBreakerProperty(
                    enable=True, rollback=True
                ),
            ),
            propagate_tags="SERVICE",
        )

    def _output(self, name: str, value: str) -> None:
        """Give the stack an output ``Helpdesk<name>``."""
        page = "assistant/options/helpdesk/deployed.md"
        cdk.CfnOutput(cdk.Stack.of(self), f"Helpdesk{name}", value=value, description=page)


def _attribute(key: str, value: str) -> elbv2.CfnLoadBalancer.LoadBalancerAttributeProperty:
    return elbv2.CfnLoadBalancer.LoadBalancerAttributeProperty(key=key, value=value)


def _target_attribute(key: str, value: str) -> elbv2.CfnTargetGroup.TargetGroupAttributeProperty:
    return elbv2.CfnTargetGroup.TargetGroupAttributeProperty(key=key, value=value)


EXCEPTIONS = (
    *exceptions(
        "Link/Helpdesk/Starts",
        wildcard("*"),
        "ecr:GetAuthorizationToken supports no resources: the token opens what the next statement names, one "
        "repository.",
    ),
    *exceptions(
        "Link/Helpdesk/Definition",
        nag("ECS2"),
        "Names and addresses, made by the settings class that reads them. Secrets come from Secrets Manager.",
    ),
    *exceptions(
        "Link/Helpdesk/Balancer",
        (nag("ELB2"), hipaa("ELBLoggingEnabled"), "checkov::CKV_AWS_91"),
        "An NLB writes access logs for TLS listeners only, and this one passes TCP to the task; the VPC's "
        "flow logs record its connections.",
    ),
    *exceptions(
        "Link/Helpdesk/Balancer",
        hipaa("ELBDeletionProtectionEnabled"),
        "A reference, without anything to keep: it goes with the care side's stack, in one command.",
    ),
    *exceptions(
        "Link/Helpdesk/Listener",
        hipaa("ELBv2ACMCertificateRequired"),
        "TLS passes through this TCP listener and ends in the task, with the desk's certificate.",
    ),
    *exceptions(
        "Link/Helpdesk/Cluster",
        (nag("ECS4"), "checkov::CKV_AWS_65"),
        "One task of a reference: the metrics that ECS has anyway tell whether it runs.",
    ),
    *exceptions(
        "Link/Helpdesk/Chats",
        hipaa("DynamoDBInBackupPlan"),
        "Chats of simulated patients, which expire. Point-in-time recovery covers 35 days.",
    ),
)
"""Validators' findings that stay in the reference desk."""
