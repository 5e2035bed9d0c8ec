"""The network stack: the VPC, which workload may open connections to which, and the endpoints.

Every rule of every security group comes from one table, ``flows_of``. A target that is not in it is
unreachable. A flow from the functions of documents to the search domain, for example, becomes two rules:
egress of the group ``Ingestion`` (``IngestionToSearch443Out``) and ingress of the group ``Search``
(``IngestionToSearch443In``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from assistant.process.settings import ServiceSettings
from stacks.outputs import NetworkOutputs, Workload
from stacks.policy import DEFAULT_GROUP, exceptions, nag
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Caller, TenantStack, pascal_case, pin
from stacks.vpc import (
    GATEWAYS,
    ReachEndpoint,
    ServiceEndpoints,
    TenantVpc,
    called_services,
    record_flows,
)

HTTPS_PORT = 443
HEALTH_PORT = 8443
"""Port of a second listener of the ALB, without client certificates, for the NLB's health checks. It exists
only where the first listener requires certificates, which a health check does not have."""
TASK_PORT: int = ServiceSettings.model_fields["port"].default
"""Port of the orchestrator's container."""
OPERATIONS_PORT = TASK_PORT + 9
"""Port on the container's loopback address: readiness and metrics, for a session in the task. No flow leads
to it."""


class Gateway(StrEnum):
    """AWS services that route tables lead to (gateway endpoints), without an address in the VPC."""

    S3 = "s3"
    DYNAMODB = "dynamodb"


@dataclass(frozen=True, slots=True)
class Consumers:
    """Clients on the care side, by a range of their own addresses: the NLB's group also sees these through
    PrivateLink (``enforce_security_group_inbound_rules…`` in ``stacks.edge``)."""

    cidr: str


@dataclass(frozen=True, slots=True)
class InterfaceEndpoints:
    """AWS services by addresses in the VPC; one security group for all of them."""


@dataclass(frozen=True, slots=True)
class Reached:
    """An internal system of the company, with an endpoint and a security group of its own."""

    name: str


Target = Workload | InterfaceEndpoints | Gateway | Reached


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """TCP connections that ``source`` opens to ``target``."""

    source: Workload | Consumers
    target: Target
    port: int = HTTPS_PORT


_WORKLOAD_OF_CALLER = {"orchestrator": Workload.ORCHESTRATOR, "connectors": Workload.CONNECTORS}
"""By ``caller`` of a ``[[reach]]`` entry."""
_SEARCHERS = (Workload.ORCHESTRATOR, Workload.INGESTION, Workload.SCHEMA)
_AWS_CALLERS = (*_SEARCHERS, Workload.REDACTOR, Workload.LEARNING, Workload.JOBS)
_S3_USERS = (*_AWS_CALLERS, Workload.MODELS, Workload.PARSER)
"""Instances of endpoints fetch their model and write captured calls, and call nothing else. The parser uses
URLs that others presigned."""
_DYNAMODB_USERS = (Workload.ORCHESTRATOR, Workload.INGESTION, Workload.LEARNING)


def flows_of(tenant: DeployedTenant) -> tuple[Flow, ...]:
    """Return every flow of the tenant's network."""
    connectors = [Workload.CONNECTORS] if tenant.connected_systems else []
    return (
        *_flows_in(tenant),
        *(Flow(source=workload, target=Workload.SEARCH) for workload in _SEARCHERS),
        *(Flow(source=workload, target=InterfaceEndpoints()) for workload in (*_AWS_CALLERS, *connectors)),
        *(Flow(source=workload, target=Gateway.S3) for workload in (*_S3_USERS, *connectors)),
        *(Flow(source=workload, target=Gateway.DYNAMODB) for workload in (*_DYNAMODB_USERS, *connectors)),
        *(
            Flow(source=_WORKLOAD_OF_CALLER[entry.caller], target=Reached(entry.name), port=entry.port)
            for entry in tenant.config.reach
        ),
    )


def _flows_in(tenant: DeployedTenant) -> Iterable[Flow]:
    """Yield the flows from the care side to the tasks: clients, NLB, ALB, orchestrator."""
    for cidr in tenant.edge.consumer_cidrs:
        yield Flow(source=Consumers(cidr), target=Workload.NLB)
    yield Flow(source=Workload.NLB, target=Workload.ALB)
    if tenant.edge.client_certificates is not None:
        yield Flow(source=Workload.NLB, target=Workload.ALB, port=HEALTH_PORT)
    yield Flow(source=Workload.ALB, target=Workload.ORCHESTRATOR, port=TASK_PORT)


class SecurityGroups(Construct):
    """One group for each workload, one for the interface endpoints, one for each internal system. Attributes
    hold group ids; ``prefix_lists``: id of a gateway's prefix list, where the tenant file names it."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        vpc_id: str,
        workloads: Iterable[Workload],
        reached: Iterable[str],
        prefix_lists: Mapping[Gateway, str],
    ) -> None:
        super().__init__(scope, construct_id)
        self._prefix_lists = prefix_lists
        self.workloads = {w: self._group(w.value, f"{w.value} of the assistant", vpc_id) for w in workloads}
        self.endpoints = self._group("Endpoints", "Interface endpoints of AWS services", vpc_id)
        self.reached = {
            name: self._group(f"Reach{pascal_case(name)}", f"Endpoint of the system {name}", vpc_id)
            for name in reached
        }

    def allow(self, flows: Iterable[Flow]) -> None:
        """Add a rule at each end of every flow. Where both ends are groups, each refers to the other."""
        for flow in flows:
            match flow.source, flow.target:
                case Consumers(cidr), Workload() as target:
                    rule = Rule(cidr=cidr, port=flow.port, description="Clients on the care side")
                    rule_id = f"{cidr_id(cidr)}To{target.value}{flow.port}In"
                    allow_in(self, rule_id, self.workloads[target], rule)
                case Workload() as source, Gateway() as gateway:
                    self._allow_gateway(source, gateway, port=flow.port)
                case Workload() as source, (Workload() | InterfaceEndpoints() | Reached()) as target:
                    name, target_id = self._group_of(target)
                    allow_between(
                        self,
                        f"{source.value}To{name}{flow.port}",
                        self.workloads[source],
                        target_id,
                        port=flow.port,
                        description=f"{source.value} to {name}",
                    )
                case _:
                    raise AssertionError(flow)

    def allow_vpc(self, source: Workload, *, cidr: str) -> None:
        """Let a workload reach the VPC's addresses: endpoints that the company created there."""
        rule = Rule(cidr=cidr, description=f"{source.value} to endpoints that the company made")
        allow_out(self, f"{source.value}ToVpc{HTTPS_PORT}Out", self.workloads[source], rule)

    def _group(self, name: str, description: str, vpc_id: str) -> str:
        group = create_group(self, name, description, vpc_id=vpc_id)
        pin(group, f"{name}Group")
        return group.attr_group_id

    def _allow_gateway(self, source: Workload, gateway: Gateway, *, port: int) -> None:
        """Allow the addresses of the gateway (its prefix list). Without a prefix list allow any address, once
        for all gateways: the subnets' route tables lead out of the VPC only to gateways."""
        prefix_list = self._prefix_lists.get(gateway)
        name = f"{source.value}To{pascal_case(gateway if prefix_list else 'gateways')}{port}Out"
        if self.node.try_find_child(name) is not None:
            return
        rule = Rule(
            cidr=None if prefix_list else "0.0.0.0/0",
            prefix_list=prefix_list,
            port=port,
            description=f"{source.value} to {gateway.value if prefix_list else 'gateway endpoints'}",
        )
        allow_out(self, name, self.workloads[source], rule)

    def _group_of(self, target: Workload | InterfaceEndpoints | Reached) -> tuple[str, str]:
        """Return the name and the id of a target's group."""
        match target:
            case Workload():
                return target.value, self.workloads[target]
            case InterfaceEndpoints():
                return "Endpoints", self.endpoints
            case Reached(name):
                return f"Reach{pascal_case(name)}", self.reached[name]


_NO_EGRESS = ec2.CfnSecurityGroup.EgressProperty(
    ip_protocol="icmp",
    from_port=252,
    to_port=86,
    cidr_ip="255.255.255.255/32",
    description="Leads nowhere: a group without any egress rule in its template is open to everywhere",
)
"""A rule that matches nothing. CloudFormation gives a group without ``SecurityGroupEgress`` the rule that
allows everything; CDK uses the same values against that."""


def create_group(scope: Construct, name: str, description: str, *, vpc_id: str) -> ec2.CfnSecurityGroup:
    return ec2.CfnSecurityGroup(
        scope, name, group_description=description, vpc_id=vpc_id, security_group_egress=[_NO_EGRESS]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """TCP connections of a group with one other end: ``cidr``, ``group_id`` or, outwards only,
    ``prefix_list``."""

    port: int = HTTPS_PORT
    description: str
    cidr: str | None = None
    group_id: str | None = None
    prefix_list: str | None = None


def allow_in(scope: Construct, construct_id: str, group_id: str, rule: Rule) -> None:
    """Let the rule's other end open connections to a group."""
    shared = _shared(group_id, rule)
    ec2.CfnSecurityGroupIngress(scope, construct_id, source_security_group_id=rule.group_id, **shared)


def allow_out(scope: Construct, construct_id: str, group_id: str, rule: Rule) -> None:
    """Let a group open connections to the rule's other end."""
    ec2.CfnSecurityGroupEgress(
        scope,
        construct_id,
        destination_security_group_id=rule.group_id,
        destination_prefix_list_id=rule.prefix_list,
        **_shared(group_id, rule),
    )


def _shared(group_id: str, rule: Rule) -> dict[str, Any]:
    """Return what rules of both directions have."""
    ports = {"ip_protocol": "tcp", "from_port": rule.port, "to_port": rule.port}
    return {"group_id": group_id, "cidr_ip": rule.cidr, "description": rule.description, **ports}


def allow_between(
    scope: Construct,
    construct_id: str,
    source_id: str,
    target_id: str,
    *,
    port: int = HTTPS_PORT,
    description: str,
) -> None:
    """Let a group open connections to another: a rule in each, ``<id>In`` and ``<id>Out``."""
    for add_rule, name, group_id, other_id in (
        (allow_in, "In", target_id, source_id),
        (allow_out, "Out", source_id, target_id),
    ):
        rule = Rule(group_id=other_id, port=port, description=description)
        add_rule(scope, f"{construct_id}{name}", group_id, rule)


def cidr_id(cidr: str) -> str:
    """Return a range as part of a construct id: ``10.0.0.0/16`` → ``10-0-0-0-16``."""
    return cidr.replace(".", "-").replace("/", "-")


class NetworkStack(TenantStack):
    """Contains all security groups and all their rules; other stacks take the ids."""

    def __init__(self, scope: Construct, *, tenant: DeployedTenant, logs_key_arn: str) -> None:
        super().__init__(scope, "Network", tenant=tenant, data_class="internal", stateful=True)
        self._vpc = TenantVpc(self, "Network")
        if self._vpc.is_own:
            recorded = {"Vpc": ("VPC", self._vpc.id)}
        else:  # the company's VPC: only the tenant's subnets
            recorded = {
                f"Subnet{number}": ("Subnet", subnet_id)
                for number, subnet_id in enumerate(self._vpc.subnet_ids, start=1)
            }
        record_flows(self, "FlowLogs", logs_key_arn=logs_key_arn, recorded=recorded)
        self._groups = self._add_security_groups()
        systems = {
            entry.name: ReachEndpoint(
                self,
                f"Reach-{entry.name}",
                entry=entry,
                vpc=self._vpc,
                security_group_id=self._groups.reached[entry.name],
            )
            for entry in tenant.config.reach
        }
        self.outputs = NetworkOutputs(
            vpc_id=self._vpc.id,
            subnet_ids=self._vpc.subnet_ids,
            route_table_ids=self._vpc.route_table_ids,
            security_group_ids=self._groups.workloads,
            reach_addresses={name: system.address for name, system in systems.items()},
        )

    def create_endpoints(self, callers: Iterable[Caller]) -> None:
        """Create the VPC's endpoints of the services that stacks call through them; call it once."""
        ServiceEndpoints(
            self,
            "ServiceEndpoints",
            vpc=self._vpc,
            security_group_id=self._groups.endpoints,
            called=called_services(callers),
        )

    def _add_security_groups(self) -> SecurityGroups:
        network, flows = self.tenant.config.network, flows_of(self.tenant)
        groups = SecurityGroups(
            self,
            "SecurityGroups",
            vpc_id=self._vpc.id,
            workloads=[w for w in Workload if w is not Workload.CONNECTORS or self.tenant.connected_systems],
            reached=[entry.name for entry in self.tenant.config.reach],
            prefix_lists={Gateway(name): prefix_list for name, prefix_list in network.prefix_lists.items()},
        )
        groups.allow(flows)
        if set(network.endpoints) - GATEWAYS:
            # The groups of the company's own endpoints are unknown here: they must admit ours.
            callers = [flow.source for flow in flows if isinstance(flow.target, InterfaceEndpoints)]
            for caller in (w for w in Workload if w in callers):
                groups.allow_vpc(caller, cidr=self._vpc.cidr)
        return groups


EXCEPTIONS = (
    *exceptions(
        "Network/Network/Vpc",
        DEFAULT_GROUP,
        "No template can empty the default group: the rule fires on every VPC. CDK would do it by a "
        "function outside the VPC, which the product does not run. Nothing here uses that group: the "
        "reachability proof checks that, and docs/architecture.md has the command that empties it.",
        decision="0023-network-by-flows-and-by-rights",
    ),
    *exceptions(
        "Network/Network/NetworkAcl",
        nag("VPC3"),
        "A warning to use network ACLs sparingly. There is one, of four rules and two for each consumer "
        "range: a second check that holds if a security group is opened by hand.",
        decision="0023-network-by-flows-and-by-rights",
    ),
)
