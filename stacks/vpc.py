"""The tenant's network: a VPC of its own with isolated subnets only, or one that the company created.

The VPC has endpoints of the AWS services that workloads call, with policies of what may pass, and of internal
systems. Which services these are follows from the calls that each role declares (``Caller``): a role that may
call ``sqs:SendMessage`` makes the network stack create the endpoint ``com.amazonaws.<region>.sqs``, whose
policy admits ``sqs:SendMessage``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_route53 as route53
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployment import ExistingVpc, ReachEntry
from stacks.processes import PULL_IMAGE
from stacks.roles import TENANT_TAG, allow, attach, resource_arn
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Caller, pascal_case, pin, tenant_log_group, tenant_of

_BITS_OF_A_SUBNET = 2
"""Each subnet is a quarter of the VPC, so that a third or fourth zone moves no other subnet."""
_LARGEST, _SMALLEST = 16, 24
"""Prefix lengths of the VPC: 16 is AWS's limit; a quarter of a /24 has 59 addresses, for the ALB (8 free ones
a subnet), tasks, functions and some 15 endpoints."""


class TenantVpc(Construct):
    """The tenant's VPC: created here (``is_own``), or that of ``[network.vpc]`` in the tenant file.

    ``id``, ``cidr``, ``subnet_ids`` (one per zone, in the tenant file's order), ``route_table_ids``.
    """

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        tenant = tenant_of(self)
        existing = tenant.config.network.vpc
        self.is_own = existing is None
        if existing is None:
            self._create(tenant)
        else:
            self._use(existing)

    def _create(self, tenant: DeployedTenant) -> None:
        block = _block(tenant)
        vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(str(block)),
            availability_zones=list(tenant.place.zones),
            nat_gateways=0,
            # CDK would empty the default group by a function outside the VPC; see the stack's exceptions.
            restrict_default_security_group=False,
            subnet_configuration=[
                ec2.SubnetConfiguration(
                    name="Isolated",
                    subnet_type=ec2.SubnetType.PRIVATE_ISOLATED,
                    cidr_mask=block.prefixlen + _BITS_OF_A_SUBNET,
                )
            ],
        )
        subnets = vpc.isolated_subnets
        pin(vpc, "Vpc")
        for number, subnet in enumerate(subnets, start=1):
            for name in ("Subnet", "RouteTable", "RouteTableAssociation"):
                pin(_child(subnet, name), f"{name}{number}")
        self.id = vpc.vpc_id
        self.cidr = str(block)
        self.subnet_ids = tuple(subnet.subnet_id for subnet in subnets)
        self.route_table_ids = tuple(subnet.route_table.route_table_id for subnet in subnets)
        self._add_network_acl(vpc, consumer_cidrs=tenant.edge.consumer_cidrs)

    def _use(self, existing: ExistingVpc) -> None:
        self.id = existing.vpc_id
        self.cidr = existing.cidr
        self.subnet_ids = existing.subnet_ids
        self.route_table_ids = existing.route_table_ids

    def _add_network_acl(self, vpc: ec2.Vpc, *, consumer_cidrs: Sequence[str]) -> None:
        """Add a network ACL, a second check beside the security groups: traffic within the VPC, HTTPS out,
        answers in.

        An ACL keeps no state, so answers need entries of their own, to the ports 1024 to 65535. From outside
        come answers of S3 and DynamoDB, whose addresses have no fixed range, and the care side's connections
        where the ACL sees the clients' own addresses.
        """
        acl = ec2.NetworkAcl(self, "NetworkAcl", vpc=vpc)
        for number, subnet in enumerate(vpc.isolated_subnets, start=1):
            ec2.SubnetNetworkAclAssociation(self, f"NetworkAcl{number}", network_acl=acl, subnet=subnet)
        inside, anywhere = ec2.AclCidr.ipv4(vpc.vpc_cidr_block), ec2.AclCidr.any_ipv4()
        answers, https = ec2.AclTraffic.tcp_port_range(1024, 65535), ec2.AclTraffic.tcp_port(443)
        to, out_of = ec2.TrafficDirection.INGRESS, ec2.TrafficDirection.EGRESS
        entries = [
            ("InsideIn", 100, to, inside, ec2.AclTraffic.all_traffic()),
            ("InsideOut", 100, out_of, inside, ec2.AclTraffic.all_traffic()),
            ("HttpsOut", 200, out_of, anywhere, https),
            ("AnswersIn", 200, to, anywhere, answers),
        ]
        for number, cidr in enumerate(consumer_cidrs):
            block = ec2.AclCidr.ipv4(cidr)
            entries.append((f"Consumer{number}In", 300 + number, to, block, https))
            entries.append((f"Consumer{number}Out", 300 + number, out_of, block, answers))
        for name, number, direction, cidr, traffic in entries:
            acl.add_entry(name, rule_number=number, direction=direction, cidr=cidr, traffic=traffic)


def _child(subnet: ec2.ISubnet, name: str) -> Construct:
    """Return a child of a subnet, typed for ``pin``."""
    child = subnet.node.find_child(name)
    if not isinstance(child, Construct):
        raise TypeError(child.node.path)
    return child


def _block(tenant: DeployedTenant) -> IPv4Network:
    """Return the addresses of the VPC. Raises ConfigurationError for too many or too few."""
    block = IPv4Network(tenant.config.network.cidr)
    if not _LARGEST <= block.prefixlen <= _SMALLEST:
        raise ConfigurationError(
            f'[network] cidr = "{block}": a VPC of this product is a /{_LARGEST} to a /{_SMALLEST}.'
        )
    return block


def record_flows(
    scope: Construct, construct_id: str, *, logs_key_arn: str, recorded: Mapping[str, tuple[str, str]]
) -> None:
    """Log every connection, accepted or refused: addresses, never content.

    ``recorded``: type (``VPC``, ``Subnet``) and id of what is recorded, by the flow log's construct id.
    """
    scope = Construct(scope, construct_id)
    group = tenant_log_group(scope, "Group", logs_key_arn=logs_key_arn)
    logs = resource_arn(scope, "ec2", "vpc-flow-log", "*")
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "vpc-flow-logs.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {
            "StringEquals": {"aws:SourceAccount": cdk.Stack.of(scope).account},
            "ArnLike": {"aws:SourceArn": logs},
        },
    }
    role = iam.CfnRole(
        scope,
        "Role",
        assume_role_policy_document={"Version": "2012-10-17", "Statement": [trust]},
        description="Writes the flow logs of the tenant's network",
    )
    actions = ("logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")
    writes = attach(scope, "Writes", role.ref, [allow(actions, group.log_group_arn)])
    for name, (kind, resource_id) in recorded.items():
        log = ec2.CfnFlowLog(
            scope,
            name,
            resource_type=kind,
            resource_id=resource_id,
            traffic_type="ALL",
            max_aggregation_interval=60,
            log_destination_type="cloud-watch-logs",
            log_group_name=group.log_group_name,
            deliver_logs_permission_arn=role.attr_arn,
        )
        log.node.add_dependency(writes)


_ENDPOINT_OF_PREFIX = {
    "cloudwatch": "monitoring",
    "dynamodb": "dynamodb",
    "ecs": "ecs",
    "events": "events",
    "kms": "kms",
    "lambda": "lambda",
    "logs": "logs",
    "s3": "s3",
    "secretsmanager": "secretsmanager",
    "sns": "sns",
    "sqs": "sqs",
    "ssm": "ssm",
    "ssmmessages": "ssmmessages",
    "states": "states",
    "sts": "sts",
    "xray": "xray",
}
"""Service of the endpoint, as in ``com.amazonaws.<region>.<service>``, by the prefix of an IAM action ("AWS
services that integrate with AWS PrivateLink")."""
_SEVERAL_ENDPOINTS = {
    # A pull calls both, whichever of the actions it is (Amazon ECR User Guide, "Interface VPC endpoints").
    "ecr": {"": ("ecr.api", "ecr.dkr")},
    "bedrock": {"invokemodel": ("bedrock-runtime",), "": ("bedrock",)},
    "sagemaker": {"invokeendpoint": ("sagemaker.runtime",), "": ("sagemaker.api",)},
}
"""Endpoints by the prefix of an action and the beginning of its name in lower case; the first match counts:
``sagemaker:InvokeEndpoint`` → ``sagemaker.runtime``, other actions of ``sagemaker`` → ``sagemaker.api``."""
_TO_AWS_OWNED = frozenset({"bedrock-runtime"})
"""Endpoints to resources that AWS owns: a foundation model's ARN has no account."""
_IN_THE_VPC = frozenset({"es", "execute-api", "vpc-lattice-svcs"})
"""Prefixes of requests that go to addresses in the VPC, and so need no endpoint of a service: to the search
domain, and to the endpoint of a ``[[reach]]`` entry, behind which is an API or a VPC Lattice service."""
_BY_PLATFORM = {
    "lambda.amazonaws.com": frozenset({"ec2", "logs", "xray"}),
    "sagemaker.amazonaws.com": frozenset({"cloudwatch", "ecr", "ec2", "logs"}),
}
"""By the service that runs a role's holder: prefixes that it calls itself with the role, over its own
network, so that they need no endpoint. Network interfaces, log lines and traces of functions (Lambda
Developer Guide, "Giving Lambda functions access to resources in an Amazon VPC"); images and logs of model
containers (SageMaker AI, ``RepositoryAccessMode: Platform``)."""
GATEWAYS = frozenset({"s3", "dynamodb"})


@dataclass(frozen=True, slots=True)
class CalledService:
    """An endpoint's service with every action that the workloads may call on it."""

    service: str
    actions: tuple[str, ...]
    resources: tuple[str, ...] = ()
    """The only resources to admit, where AWS owns them, so that no condition on an account can; else
    empty."""


def called_services(callers: Iterable[Caller]) -> tuple[CalledService, ...]:
    """Return every service that the stacks' roles call, by name.

    Raises ConfigurationError where a statement does not say: an action of an unknown service, ``NotAction``.
    """
    services: dict[str, set[str]] = {}
    resources: dict[str, set[str]] = {name: set() for name in _TO_AWS_OWNED}
    for caller in callers:
        for service in caller.through:
            services.setdefault(service, set())
        for statement in caller.statements:
            for action in _called(statement, caller=caller):
                for service in _services(action, caller=caller):
                    services.setdefault(service, set()).add(action)
                    if service in _TO_AWS_OWNED:
                        resources[service].update(statement.resources)
    return tuple(
        # No actions: a platform calls the service for a holder (`through`), so every action is admitted.
        CalledService(
            name,
            tuple(sorted(actions or {f"{_prefix_of(name)}:*"})),
            tuple(sorted(resources.get(name, ()))),
        )
        for name, actions in sorted(services.items())
    )


def _called(statement: iam.PolicyStatement, *, caller: Caller) -> Iterator[str]:
    """Yield the actions that the holder itself calls by a statement: not those on KMS with
    ``kms:ViaService``, which a service calls for it. Raises ConfigurationError for ``NotAction``."""
    if statement.effect != iam.Effect.ALLOW:
        return
    if statement.not_actions:
        raise ConfigurationError(f"{caller.path}: NotAction does not say what is called. List the actions.")
    through_service = any("kms:ViaService" in keys for keys in statement.conditions.values())
    for action in statement.actions:
        if not (through_service and action.startswith("kms:")):
            yield action


def _services(action: str, *, caller: Caller) -> tuple[str, ...]:
    """Return the endpoints through which an action is called: none where it stays in the VPC."""
    prefix, _, name = action.partition(":")
    if prefix in _IN_THE_VPC or prefix in _BY_PLATFORM.get(caller.platform, ()):
        return ()
    if prefix in _SEVERAL_ENDPOINTS:
        endpoints = _SEVERAL_ENDPOINTS[prefix]
        if name == "*":
            return tuple(service for services in endpoints.values() for service in services)
        return next(
            services for beginning, services in endpoints.items() if name.lower().startswith(beginning)
        )
    if prefix in _ENDPOINT_OF_PREFIX:
        return (_ENDPOINT_OF_PREFIX[prefix],)
    raise ConfigurationError(
        f"{caller.path} may call {action}, and no endpoint is known for it, so in the tenant's VPC it "
        "cannot. Add the service to stacks/vpc.py, or take the action away."
    )


def _prefix_of(service: str) -> str:
    """Return the prefix of the IAM actions of an endpoint's service."""
    endpoints = {prefix: {"": (name,)} for prefix, name in _ENDPOINT_OF_PREFIX.items()} | _SEVERAL_ENDPOINTS
    for prefix, by_action in endpoints.items():
        if any(service in names for names in by_action.values()):
            return prefix
    raise ConfigurationError(f'through="{service}": no such endpoint is known. Add it to stacks/vpc.py.')


def endpoint_policy(called: CalledService, *, tenant: DeployedTenant, pulls_images: bool) -> dict[str, Any]:
    """Return the policy document of a service's endpoint: the data perimeter.

    It admits only principals of the tenant, only to resources of its account, only with the actions of its
    roles; and what AWS keeps in accounts of its own. Pulls of images ask for no tag
    (docs/decisions/0128-endpoints-that-let-tasks-pull.md). After
    https://github.com/aws-samples/data-perimeter-policy-examples (``vpc_endpoint_policies``).
    """
    if called.resources:
        statement = _allow("TenantToItsModel", called.actions, _own(tenant, None))
        return {"Version": "2012-10-17", "Statement": [{**statement, "Resource": list(called.resources)}]}
    if called.service == "ecr.dkr":
        accounts = {"aws:ResourceAccount": [tenant.place.account, *_publishers(tenant)]}
        pulls = _allow("PullOfTheseAccounts", called.actions, {"StringEquals": accounts})
        return {"Version": "2012-10-17", "Statement": [pulls]}
    statements = [_allow("TenantToItsAccount", called.actions, _own(tenant, [tenant.place.account]))]
    if called.service == "s3":
        statements += _buckets_of_aws(tenant, pulls_images=pulls_images)
    if called.service == "ecr.api":
        by_aws = {"Bool": {"aws:PrincipalIsAWSService": "true"}}
        statements.append(_allow("ServicesOfAws", called.actions, by_aws))
        if publishers := _publishers(tenant):
            statements.append(_allow("PullImagesOfAws", PULL_IMAGE, _own(tenant, publishers)))
    return {"Version": "2012-10-17", "Statement": statements}


def _buckets_of_aws(tenant: DeployedTenant, *, pulls_images: bool) -> list[dict[str, Any]]:
    """Return statements for requests that AWS's own principals sign: they have no tag, so only the bucket is
    restricted. One is the answer of a custom resource, another the layers of images."""
    region = tenant.place.region
    # "Setting up VPC endpoints for AWS CloudFormation": the region without dashes.
    responses = f"cloudformation-custom-resource-response-{region.replace('-', '')}"
    statements = [_allow("AnswerOfCustomResource", ["s3:PutObject"], None, bucket=responses)]
    if pulls_images:
        layers = f"prod-{region}-starport-layer-bucket"
        statements.append(_allow("LayersOfImages", ["s3:GetObject"], None, bucket=layers))
    return statements


def _publishers(tenant: DeployedTenant) -> list[str]:
    """Return the accounts in which AWS publishes images of the lock in the tenant's region."""
    return sorted(
        {
            accounts[tenant.place.region]
            for name in tenant.images.images
            if tenant.place.region in (accounts := tenant.images.accounts(name))
        }
    )


def _own(tenant: DeployedTenant, resource_accounts: list[str] | None) -> Mapping[str, Any]:
    """Return the condition: principals of the tenant, resources of these accounts (None: of any)."""
    principals = {"aws:PrincipalAccount": tenant.place.account, TENANT_TAG: tenant.name}
    resources = {} if resource_accounts is None else {"aws:ResourceAccount": resource_accounts}
    return {"StringEquals": principals | resources}


def _allow(
    sid: str, actions: Sequence[str], conditions: Mapping[str, Any] | None, *, bucket: str | None = None
) -> dict[str, Any]:
    statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": list(actions),
        "Resource": "*" if bucket is None else f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}/*",
    }
    return statement if conditions is None else {**statement, "Condition": conditions}


MAX_ENDPOINTS = 50
"""Interface endpoints in one VPC (Amazon VPC quotas)."""


class ServiceEndpoints(Construct):
    """An endpoint for each service that is called, unless ``[network.endpoints]`` names an existing one.

    Raises ConfigurationError for too many, and for an existing one that nothing calls.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc: TenantVpc,
        security_group_id: str,
        called: Sequence[CalledService],
    ) -> None:
        super().__init__(scope, construct_id)
        tenant = tenant_of(self)
        self._vpc = vpc
        self._security_group_id = security_group_id
        existing = tenant.config.network.endpoints
        names = {service.service for service in called}
        _check_existing(existing, called=names)
        _check_number(names - GATEWAYS, reached=tenant.config.reach)
        for service in called:
            if service.service not in existing:
                policy = endpoint_policy(service, tenant=tenant, pulls_images="ecr.dkr" in names)
                self._create(service.service, policy)

    def _create(self, service: str, policy: dict[str, Any]) -> None:
        name, is_gateway = pascal_case(service), service in GATEWAYS
        kind = ec2.GatewayVpcEndpointAwsService if is_gateway else ec2.InterfaceVpcEndpointAwsService
        endpoint = ec2.CfnVPCEndpoint(
            self,
            name,
            vpc_endpoint_type="Gateway" if is_gateway else "Interface",
            service_name=kind(service).name,
            vpc_id=self._vpc.id,
            policy_document=policy,
        )
        if is_gateway:
            endpoint.route_table_ids = list(self._vpc.route_table_ids)
        else:
            # A zone is paid by the hour; in `dev` the other zones reach the first one's.
            zones = 1 if tenant_of(self).is_dev else None
            endpoint.subnet_ids = list(self._vpc.subnet_ids[:zones])
            endpoint.security_group_ids = [self._security_group_id]
            endpoint.private_dns_enabled = True
        pin(endpoint, f"{name}Endpoint")
        cdk.Tags.of(endpoint).add("Name", service)


class ReachEndpoint(Construct):
    """The endpoint of one internal system: an endpoint service, or a resource of VPC Lattice."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        entry: ReachEntry,
        vpc: TenantVpc,
        security_group_id: str,
    ) -> None:
        super().__init__(scope, construct_id)
        by_service = entry.service_name is not None
        endpoint = ec2.CfnVPCEndpoint(
            self,
            "Endpoint",
            vpc_endpoint_type="Interface" if by_service else "Resource",
            service_name=entry.service_name,
            resource_configuration_arn=entry.resource_configuration_arn,
            vpc_id=vpc.id,
            subnet_ids=list(vpc.subnet_ids),
            security_group_ids=[security_group_id],
            # Of an endpoint service: the provider's own name would need the provider's consent, and the
            # endpoint's name always resolves. A Lattice resource has only the name that its owner gave it.
            private_dns_enabled=False if by_service else entry.host_name is not None or None,
            dns_options=None if by_service or entry.host_name is None else _resolve_only(entry.host_name),
        )
        pin(endpoint, f"Reach{pascal_case(entry.name)}Endpoint")
        cdk.Tags.of(endpoint).add("Name", entry.name)
        host = entry.host_name or entry.name
        if by_service:
            host = endpoint_name(endpoint).dns_name
            if entry.caller == "connectors" and entry.host_name is not None:
                name_in_vpc(self, entry.host_name, endpoint_name(endpoint), vpc_id=vpc.id)
            cdk.CfnOutput(
                self, "Names", value=cdk.Fn.join(",", endpoint.attr_dns_entries), description=entry.name
            )

        self.address = f"https://{host}:{entry.port}"
        """Base URL of the system. TLS names ``host_name`` of the entry where it has one."""


class EndpointName(NamedTuple):
    """The DNS name of an interface endpoint or a load balancer in all its zones, and the hosted zone of the
    name."""

    hosted_zone_id: str
    dns_name: str


def endpoint_name(endpoint: ec2.CfnVPCEndpoint) -> EndpointName:
    """Return the name of an endpoint, which CloudFormation resolves."""
    # As `<hosted zone>:<name>`; the first one is that of all zones.
    entry = cdk.Fn.split(":", cdk.Fn.select(0, endpoint.attr_dns_entries))
    return EndpointName(cdk.Fn.select(0, entry), cdk.Fn.select(1, entry))


def name_in_vpc(scope: Construct, host_name: str, leads_to: EndpointName, *, vpc_id: str) -> None:
    """Let a host name lead to an endpoint or a load balancer in the VPC and nowhere else: a private hosted
    zone."""
    zone = route53.CfnHostedZone(
        scope,
        "Zone",
        name=host_name,
        vpcs=[route53.CfnHostedZone.VPCProperty(vpc_id=vpc_id, vpc_region=cdk.Aws.REGION)],
    )
    route53.CfnRecordSet(
        scope,
        "HostName",
        hosted_zone_id=zone.attr_id,
        name=host_name,
        type="A",
        alias_target=route53.CfnRecordSet.AliasTargetProperty(
            hosted_zone_id=leads_to.hosted_zone_id, dns_name=leads_to.dns_name
        ),
    )


def _resolve_only(host_name: str) -> ec2.CfnVPCEndpoint.DnsOptionsSpecificationProperty:
    """Resolve one custom domain name of a VPC Lattice resource in the VPC, and no other of its owner's.

    https://docs.aws.amazon.com/vpc-lattice/latest/APIReference/API_DnsOptions.html
    """
    return ec2.CfnVPCEndpoint.DnsOptionsSpecificationProperty(
        private_dns_preference="SPECIFIED_DOMAINS_ONLY", private_dns_specified_domains=[host_name]
    )


def _check_existing(existing: Iterable[str], *, called: set[str]) -> None:
    unknown = sorted(set(existing) - called)
    if unknown:
        raise ConfigurationError(
            f"[network.endpoints] {', '.join(unknown)}: no workload of this tenant calls it. They call "
            f"{', '.join(sorted(called))}."
        )


def _check_number(interfaces: set[str], *, reached: Sequence[ReachEntry]) -> None:
    number = len(interfaces) + len(reached)
    if number > MAX_ENDPOINTS:
        raise ConfigurationError(
            f"{number} interface endpoints ({len(interfaces)} of AWS services, {len(reached)} of [[reach]]): "
            f"a VPC holds {MAX_ENDPOINTS}. Put several systems behind one endpoint service."
        )
