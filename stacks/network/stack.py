"""The network stack: where the tenant stands, who may reach whom, and the ways out."""

from __future__ import annotations

from constructs import Construct

from stacks.network.endpoints import GATEWAYS, ReachEndpoint, ServiceEndpoints, called_services
from stacks.network.security_groups import (
    HTTPS_PORT,
    Gateway,
    InterfaceEndpoints,
    SecurityGroups,
    flows_of,
)
from stacks.network.vpc import FlowLogs, TenantVpc
from stacks.outputs import KeysOutputs, NetworkOutputs, Workload
from stacks.policy import Acknowledgement
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import TenantStack


class NetworkStack(TenantStack):
    """All security groups and all their rules are here; other stacks take the ids."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            tenant=tenant,
            data_class="internal",
            description="network",
            stateful=True,
        )
        self._vpc = TenantVpc(self, "Network", tenant=tenant)
        self._add_flow_logs(keys)
        self._groups = self._add_security_groups()
        self._add_ways_to_systems()
        self.outputs = NetworkOutputs(
            vpc_id=self._vpc.id,
            subnet_ids=self._vpc.subnet_ids,
            route_table_ids=self._vpc.route_table_ids,
            security_group_ids=self._groups.workloads,
        )

    def create_endpoints(self, *, called_from: Construct) -> None:
        """Make the VPC's endpoints: those of the services that workload roles below ``called_from`` call.

        Call it once, after every stack has given its roles their policies.
        """
        ServiceEndpoints(
            self,
            "ServiceEndpoints",
            tenant=self.tenant,
            vpc=self._vpc,
            security_group_id=self._groups.endpoints,
            called=called_services(called_from),
        )

    def _add_flow_logs(self, keys: KeysOutputs) -> None:
        """Of the VPC where it is the tenant's; of the named subnets where it is the company's."""
        if self._vpc.is_own:
            watched = {"Vpc": ("VPC", self._vpc.id)}
        else:
            watched = {
                f"Subnet{number}": ("Subnet", subnet_id)
                for number, subnet_id in enumerate(self._vpc.subnet_ids, start=1)
            }
        FlowLogs(self, "FlowLogs", tenant=self.tenant, logs_key_arn=keys.logs_key_arn, watched=watched)

    def _add_security_groups(self) -> SecurityGroups:
        network, flows = self.tenant.config.network, flows_of(self.tenant)
        groups = SecurityGroups(
            self,
            "SecurityGroups",
            vpc_id=self._vpc.id,
            reached=[entry.name for entry in self.tenant.config.reach],
            prefix_lists={Gateway(name): prefix_list for name, prefix_list in network.prefix_lists.items()},
        )
        groups.allow(flows)
        if set(network.endpoints) - GATEWAYS:
            # The groups of the company's own endpoints are not known here: they have to let ours in.
            callers = [flow.source for flow in flows if isinstance(flow.target, InterfaceEndpoints)]
            for caller in (workload for workload in Workload if workload in callers):
                groups.allow_out(caller, cidr=self._vpc.cidr, port=HTTPS_PORT)
        return groups

    def _add_ways_to_systems(self) -> None:
        for entry in self.tenant.config.reach:
            ReachEndpoint(
                self,
                f"Reach-{entry.name}",
                entry=entry,
                vpc=self._vpc,
                security_group_id=self._groups.reached[entry.name],
            )


# Findings that stay in the network stack, each with its reason.


EXCEPTIONS: tuple[Acknowledgement, ...] = (
    Acknowledgement(
        construct="Network/Network/Vpc",
        findings=("HIPAA.Security::HIPAA.Security-VPCDefaultSecurityGroupClosed",),
        reason=(
            "No template can empty the default group: it fires on every VPC. CDK would do it by a function "
            "outside the VPC, which the product does not run. Nothing here carries that group: the "
            "reachability proof says so, and docs/architecture.md has the command that empties it."
        ),
        decision="0023-network-by-flows-and-by-rights",
    ),
    Acknowledgement(
        construct="Network/Network/NetworkAcl",
        findings=("AwsSolutions::AwsSolutions-VPC3",),
        reason=(
            "A warning to use network ACLs sparingly. There is one, of four rules and two for each consumer "
            "range: a second wall that holds if a security group is opened by hand."
        ),
        decision="0023-network-by-flows-and-by-rights",
    ),
)
