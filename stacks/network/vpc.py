"""The tenant's network: a VPC of its own with isolated subnets only, or one that the company created."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment import ExistingVpc
from stacks.roles import allow, attach, resource_arn
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import pin, tenant_log_group

_BITS_OF_A_SUBNET = 2
"""Each subnet is a quarter of the VPC, so that a third or fourth zone moves no other subnet."""
_LARGEST, _SMALLEST = 16, 24
"""Prefix lengths of the VPC: 16 is AWS's limit; a quarter of a /24 has 59 addresses, for the ALB (8 free ones
a subnet), tasks, functions and some 15 endpoints."""


class TenantVpc(Construct):
    """``id``, ``cidr``, ``subnet_ids`` (one per zone, in the tenant file's order), ``route_table_ids``."""

    def __init__(self, scope: Construct, construct_id: str, *, tenant: DeployedTenant) -> None:
        super().__init__(scope, construct_id)
        check_zones(tenant)
        existing = tenant.config.network.vpc
        self.is_own = existing is None
        if existing is None:
            self._create(tenant)
        else:
            self._use(existing, zones=tenant.place.zones)

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

    def _use(self, existing: ExistingVpc, *, zones: Sequence[str]) -> None:
        if len(existing.subnet_ids) != len(zones):
            raise ConfigurationError(
                f"[network.vpc] names {len(existing.subnet_ids)} subnets, [deployment] {len(zones)} zones. "
                "Give one subnet for each zone, in the same order."
            )
        self.id = existing.vpc_id
        self.cidr = existing.cidr
        self.subnet_ids = existing.subnet_ids
        self.route_table_ids = existing.route_table_ids

    def _add_network_acl(self, vpc: ec2.Vpc, *, consumer_cidrs: Sequence[str]) -> None:
        """A second check, without state: traffic within the VPC, HTTPS out, answers in.

        Traffic from outside is answers of S3 and DynamoDB, whose addresses have no fixed range, and the care
        side's connections where a network ACL sees their own addresses.
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


def check_zones(tenant: DeployedTenant) -> None:
    """Raise ConfigurationError unless zones are of the region, distinct, and enough for the profile."""
    zones, region = tenant.place.zones, tenant.place.region
    foreign = [zone for zone in zones if zone[:-1] != region]
    if foreign:
        raise ConfigurationError(
            f"[deployment] zones: {', '.join(foreign)} is not in region {region}. List zones of that region."
        )
    if len(set(zones)) != len(zones):
        raise ConfigurationError("[deployment] zones: a zone is listed twice. List each zone once.")
    if tenant.is_hipaa and len(zones) < 3:
        raise ConfigurationError(
            '[deployment] zones: profile "hipaa" has a standby of the search domain, which needs three zones.'
        )


def _child(subnet: ec2.ISubnet, name: str) -> Construct:
    child = subnet.node.find_child(name)
    if not isinstance(child, Construct):
        raise TypeError(child.node.path)
    return child


def _block(tenant: DeployedTenant) -> IPv4Network:
    block = IPv4Network(tenant.config.network.cidr)
    if not _LARGEST <= block.prefixlen <= _SMALLEST:
        raise ConfigurationError(
            f'[network] cidr = "{block}": a VPC of this product is a /{_LARGEST} to a /{_SMALLEST}.'
        )
    return block


def record_flows(
    scope: Construct,
    construct_id: str,
    *,
    tenant: DeployedTenant,
    logs_key_arn: str,
    recorded: Mapping[str, tuple[str, str]],
) -> None:
    """Log every connection, accepted or refused: addresses, never content.

    ``recorded`` gives type (``VPC``, ``Subnet``) and id by construct id.
    """
    scope = Construct(scope, construct_id)
    group = tenant_log_group(scope, "Group", tenant=tenant, logs_key_arn=logs_key_arn)
    logs = resource_arn(scope, "ec2", "vpc-flow-log", "*")
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": "vpc-flow-logs.amazonaws.com"},
        "Action": "sts:AssumeRole",
        "Condition": {
            "StringEquals": {"aws:SourceAccount": tenant.place.account},
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
