"""The network stack: the VPC, who may reach whom, and the endpoints of AWS services and internal systems."""

from __future__ import annotations

from collections.abc import Iterable

from constructs import Construct

from stacks.network.security_groups import Gateway, InterfaceEndpoints, SecurityGroups, flows_of
from stacks.network.vpc import (
    GATEWAYS,
    ReachEndpoint,
    ServiceEndpoints,
    TenantVpc,
    called_services,
    record_flows,
)
from stacks.outputs import NetworkOutputs, Workload
from stacks.policy import DEFAULT_GROUP, exceptions, nag
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import Caller, TenantStack


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
            for caller in (workload for workload in Workload if workload in callers):
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
