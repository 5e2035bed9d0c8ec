"""The network stack."""

from __future__ import annotations

from constructs import Construct

from stacks.constructs.tenant_stack import TenantStack
from stacks.outputs import KeysOutputs, NetworkOutputs, Workload
from stacks.tenant import DeployedTenant


class NetworkStack(TenantStack):
    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
    ) -> None:
        super().__init__(scope, construct_id, tenant=tenant, data_class="internal", description="network")
        self.outputs = NetworkOutputs(
            vpc_id="vpc-12345678",
            vpc_cidr="10.0.0.0/20",
            subnet_ids=("subnet-1", "subnet-2", "subnet-3"),
            route_table_ids=("rtb-1",),
            security_group_ids={w: f"sg-{w}" for w in Workload},
        )

    def create_endpoints(self, *, called_from: Construct) -> None:
        """Make the VPC's endpoints: those of the services that workload roles below ``called_from`` call."""
