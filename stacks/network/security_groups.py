"""Who may open a connection to whom in the tenant's VPC: one table, from which every rule of every security
group is made. What does not stand here cannot be reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from assistant.settings.deployment import ReachEntry
from assistant.settings.process import ServiceSettings
from stacks.outputs import Workload
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import pin

HTTPS_PORT = 443
HEALTH_PORT = 8443
"""A second listener of the ALB, without client certificates, that the NLB's health checks ask. It exists only
where the first one asks for certificates, which a health check has none of."""
TASK_PORT: int = ServiceSettings.model_fields["port"].default
"""Of the orchestrator's container."""
OPERATIONS_PORT = TASK_PORT + 9
"""Of the same container, on its loopback address: readiness and metrics for who has a session in the task. No
flow leads to it."""


class Gateway(StrEnum):
    """What route tables lead to, without an address in the VPC."""

    S3 = "s3"
    DYNAMODB = "dynamodb"


@dataclass(frozen=True, slots=True)
class Consumers:
    """Clients on the care side, by a range of their own addresses: PrivateLink's enforcement judges those."""

    cidr: str


@dataclass(frozen=True, slots=True)
class InterfaceEndpoints:
    """AWS services by addresses in the VPC; one security group for all of them."""


@dataclass(frozen=True, slots=True)
class Reached:
    """An internal system of the company, by an endpoint and a security group of its own."""

    name: str


Target = Workload | InterfaceEndpoints | Gateway | Reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """TCP connections that ``source`` opens to ``target``."""

    source: Workload | Consumers
    target: Target
    port: int = HTTPS_PORT


_CALLERS = {"orchestrator": Workload.ORCHESTRATOR, "ingestion": Workload.INGESTION}
_SEARCHERS = (Workload.ORCHESTRATOR, Workload.INGESTION, Workload.SCHEMA)
_AWS_CALLERS = (
    Workload.ORCHESTRATOR,
    Workload.INGESTION,
    Workload.SCHEMA,
    Workload.REDACTOR,
    Workload.JOBS,
)
_S3_USERS = (*_AWS_CALLERS, Workload.MODELS)
"""Endpoints' instances fetch their model and write what they capture, and call nothing else."""
_DYNAMODB_USERS = (Workload.ORCHESTRATOR, Workload.INGESTION)


def flows_of(tenant: DeployedTenant) -> tuple[Flow, ...]:
    """Return every flow of the tenant's network."""
    return (
        *_way_in(tenant),
        *(Flow(source=workload, target=Workload.SEARCH) for workload in _SEARCHERS),
        *(Flow(source=workload, target=InterfaceEndpoints()) for workload in _AWS_CALLERS),
        *(Flow(source=workload, target=Gateway.S3) for workload in _S3_USERS),
        *(Flow(source=workload, target=Gateway.DYNAMODB) for workload in _DYNAMODB_USERS),
        *_ways_to(tenant.config.reach),
    )


def _way_in(tenant: DeployedTenant) -> Iterable[Flow]:
    for cidr in tenant.edge.consumer_cidrs:
        yield Flow(source=Consumers(cidr), target=Workload.NLB)
    yield Flow(source=Workload.NLB, target=Workload.ALB)
    if tenant.edge.client_certificates is not None:
        yield Flow(source=Workload.NLB, target=Workload.ALB, port=HEALTH_PORT)
    yield Flow(source=Workload.ALB, target=Workload.ORCHESTRATOR, port=TASK_PORT)


def _ways_to(entries: Iterable[ReachEntry]) -> Iterable[Flow]:
    for entry in entries:
        yield Flow(source=_CALLERS[entry.caller], target=Reached(entry.name), port=entry.port)


# Security groups and all their rules, made from the table of flows.


_NOBODY = ec2.CfnSecurityGroup.EgressProperty(
    ip_protocol="icmp",
    from_port=252,
    to_port=86,
    cidr_ip="255.255.255.255/32",
    description="Leads nowhere: a group without any egress rule in its template is open to everywhere",
)
"""CloudFormation gives a group without ``SecurityGroupEgress`` the rule that allows everything, until a rule
of its own replaces it; this is the one CDK writes too."""


class SecurityGroups(Construct):
    """One group for each workload, one for the interface endpoints, one for each system that is reached."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc_id: str,
        reached: Iterable[str],
        prefix_lists: Mapping[Gateway, str],
    ) -> None:
        super().__init__(scope, construct_id)
        self._prefix_lists = prefix_lists
        self.workloads = {w: self._group(w.value, f"{w.value} of the assistant", vpc_id) for w in Workload}
        self.endpoints = self._group("Endpoints", "Interface endpoints of AWS services", vpc_id)
        self.reached = {
            name: self._group(f"Reach{_pascal_case(name)}", f"Endpoint of the system {name}", vpc_id)
            for name in reached
        }

    def allow(self, flows: Iterable[Flow]) -> None:
        """Add a rule at each end of every flow. Where both ends are groups, each names the other."""
        for flow in flows:
            match flow.source, flow.target:
                case Consumers(cidr), Workload() as target:
                    self._allow_consumers(cidr, target=target, port=flow.port)
                case Workload() as source, Gateway() as gateway:
                    self._allow_gateway(source, gateway, port=flow.port)
                case Workload() as source, (Workload() | InterfaceEndpoints() | Reached()) as target:
                    self._allow_group(source, target, port=flow.port)
                case _:
                    raise AssertionError(flow)

    def allow_out(self, source: Workload, *, cidr: str, port: int) -> None:
        """Let a workload reach a range of addresses."""
        ec2.CfnSecurityGroupEgress(
            self,
            f"{source.value}ToVpc{port}Out",
            group_id=self.workloads[source],
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            cidr_ip=cidr,
            description=f"{source.value} to endpoints that the company made",
        )

    def _group(self, name: str, description: str, vpc_id: str) -> str:
        group = ec2.CfnSecurityGroup(
            self, name, group_description=description, vpc_id=vpc_id, security_group_egress=[_NOBODY]
        )
        pin(group, f"{name}Group")
        return group.attr_group_id

    def _allow_consumers(self, cidr: str, *, target: Workload, port: int) -> None:
        ec2.CfnSecurityGroupIngress(
            self,
            f"{cidr.replace('.', '-').replace('/', '-')}To{target.value}{port}In",
            group_id=self.workloads[target],
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            cidr_ip=cidr,
            description="Clients on the care side",
        )

    def _allow_gateway(self, source: Workload, gateway: Gateway, *, port: int) -> None:
        """Towards the gateway's prefix list; without one towards any address, where route tables lead only to
        the gateways."""
        prefix_list = self._prefix_lists.get(gateway)
        name = f"{source.value}To{_pascal_case(gateway if prefix_list else 'gateways')}{port}Out"
        if self.node.try_find_child(name) is not None:
            return
        ec2.CfnSecurityGroupEgress(
            self,
            name,
            group_id=self.workloads[source],
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            destination_prefix_list_id=prefix_list,
            cidr_ip=None if prefix_list else "0.0.0.0/0",
            description=f"{source.value} to {gateway.value if prefix_list else 'gateway endpoints'}",
        )

    def _allow_group(
        self, source: Workload, target: Workload | InterfaceEndpoints | Reached, *, port: int
    ) -> None:
        name, target_id = self._named(target)
        description = f"{source.value} to {name}"
        ec2.CfnSecurityGroupIngress(
            self,
            f"{source.value}To{name}{port}In",
            group_id=target_id,
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            source_security_group_id=self.workloads[source],
            description=description,
        )
        ec2.CfnSecurityGroupEgress(
            self,
            f"{source.value}To{name}{port}Out",
            group_id=self.workloads[source],
            ip_protocol="tcp",
            from_port=port,
            to_port=port,
            destination_security_group_id=target_id,
            description=description,
        )

    def _named(self, target: Workload | InterfaceEndpoints | Reached) -> tuple[str, str]:
        match target:
            case Workload():
                return target.value, self.workloads[target]
            case InterfaceEndpoints():
                return "Endpoints", self.endpoints
            case Reached(name):
                return f"Reach{_pascal_case(name)}", self.reached[name]


def _pascal_case(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))
